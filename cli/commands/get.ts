import type { Client } from '@temporalio/client';
import { status } from '../../client/index.js';
import { connectTemporal, loadKubernetes } from '../connections.js';
import { openDataVolumes, type DataVolume } from '../data-volumes.js';
import { print, printJson, type OutputOptions } from '../output.js';
import { timeLeft } from '../render/figures.js';
import { dataVolumeTable, type Row } from '../render/table.js';

/** Options of `dvflow get`. */
export interface GetOptions extends OutputOptions {
  readonly namespace: string;
  readonly allNamespaces?: boolean;
}

/** Phases in which bytes move, so that Temporal has more to tell than Kubernetes. */
const TRANSFER_PHASES: readonly string[] = ['ImportInProgress', 'UploadReady', 'CloneInProgress'];

/** Lists DataVolumes as kubectl does; the rows of running ones get what Temporal knows. */
export async function runGet(name: string | undefined, options: GetOptions): Promise<void> {
  const { namespace, allNamespaces, output } = options;
  const dataVolumes = await openDataVolumes(await loadKubernetes());
  const found = name
    ? [await dataVolumes.get(namespace, name)]
    : await dataVolumes.list(allNamespaces ? undefined : namespace);
  const rows = await withTransfers(found);
  if (output === 'json') printJson({ items: rows.map(toJson) });
  else if (rows.length === 0)
    print(allNamespaces ? 'no DataVolumes' : `no DataVolumes in namespace ${namespace}`);
  else print(dataVolumeTable(rows, Date.now(), allNamespaces ?? false));
}

async function withTransfers(found: readonly DataVolume[]): Promise<readonly Row[]> {
  if (!found.some(isTransferring)) return found.map((dataVolume) => ({ dataVolume }));
  try {
    const { client, close } = await connectTemporal();
    try {
      return await Promise.all(found.map((dataVolume) => withTransfer(client, dataVolume)));
    } finally {
      await close();
    }
  } catch (error) {
    process.stderr.write(`dvflow: no rates: ${error instanceof Error ? error.message : String(error)}\n`);
    return found.map((dataVolume) => ({ dataVolume }));
  }
}

async function withTransfer(client: Client, dataVolume: DataVolume): Promise<Row> {
  if (!isTransferring(dataVolume)) return { dataVolume };
  const { namespace, name } = dataVolume.metadata;
  // A run that has ended since the list was made has no transfer any more.
  const facts = await status(client, { namespace, name }).catch(() => undefined);
  return { dataVolume, ...(facts?.progress ? { transfer: facts.progress } : {}) };
}

function isTransferring({ status }: DataVolume): boolean {
  return TRANSFER_PHASES.includes(status?.phase ?? '');
}

function toJson({ dataVolume: { metadata, status }, transfer }: Row) {
  const { namespace, name, uid, creationTimestamp } = metadata;
  const left = transfer && timeLeft(transfer);
  return {
    ...{ namespace, name, uid, creationTimestamp },
    phase: status?.phase ?? '',
    progress: status?.progress,
    restartCount: status?.restartCount,
    conditions: status?.conditions,
    ...(transfer
      ? { transfer, ...(left === undefined ? {} : { secondsLeft: Math.round(left / 1000) }) }
      : {}),
  };
}
