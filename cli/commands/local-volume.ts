import {
  createLocalBlockVolume,
  deleteLocalBlockVolume,
  type LocalBlockVolumeResult,
} from '../../client/index.js';
import { loadKubernetes, withTemporal } from '../connections.js';
import { CliError, EXIT } from '../errors.js';
import { endOf } from '../follow.js';
import { print, printJson, type OutputOptions } from '../output.js';
import { table } from '../render/table.js';

/** Label of the volumes that dvflow made over files. */
const LABEL = 'dvflow.io/local-volume';

/** Options of `dvflow local-volume create`. */
export interface CreateOptions extends OutputOptions {
  readonly node: string;
  readonly size: string;
  readonly name?: string;
  readonly class?: string;
  readonly pool?: string;
  readonly preallocate?: boolean;
  readonly label?: Readonly<Record<string, string>>;
}

/** Makes a volume through Temporal and says where it is. */
export async function runCreate(options: CreateOptions): Promise<void> {
  const { node, size, name, pool, preallocate, label: labels, output } = options;
  await withTemporal(async (client) => {
    const handle = await createLocalBlockVolume(client, {
      node,
      size,
      ...(name === undefined ? {} : { name }),
      ...(options.class === undefined ? {} : { storageClassName: options.class }),
      ...(pool === undefined ? {} : { pool }),
      ...(preallocate ? { preallocation: true } : {}),
      ...(labels ? { labels } : {}),
    });
    const result = (await endOf(client, handle, handle.workflowId)) as LocalBlockVolumeResult;
    if (output === 'json') return printJson({ workflowId: handle.workflowId, ...result });
    const how = result.directIo ? '' : ' (without direct I/O: the file system of the pool has none)';
    print(
      `PersistentVolume ${result.volume}: ${result.bytes} bytes, ${result.path} on node ${result.node}${how}`,
    );
  });
}

/** Removes a volume through Temporal; by then it is gone. */
export async function runDelete(name: string, { node }: { readonly node?: string }): Promise<void> {
  await withTemporal(async (client) => {
    const handle = await deleteLocalBlockVolume(client, { name, ...(node === undefined ? {} : { node }) });
    const { deleted } = (await endOf(client, handle, `removal of volume ${name}`)) as { deleted: boolean };
    if (!deleted) throw new CliError(`there is no PersistentVolume ${name}`, EXIT.permanent);
    print(`PersistentVolume ${name} and its file are removed`);
  });
}

/** Lists the volumes with the rights of the user of the cluster. */
export async function runList({ output }: OutputOptions): Promise<void> {
  const kubeConfig = await loadKubernetes();
  const { CoreV1Api } = await import('../../activities/kubernetes/library.js');
  const { items } = await kubeConfig.makeApiClient(CoreV1Api).listPersistentVolume({ labelSelector: LABEL });
  const volumes = items.map(({ metadata, spec, status }) => ({
    name: metadata?.name ?? '',
    capacity: spec?.capacity?.['storage'] ?? '',
    class: spec?.storageClassName ?? '',
    node: spec?.nodeAffinity?.required?.nodeSelectorTerms[0]?.matchExpressions?.[0]?.values?.[0] ?? '',
    status: status?.phase ?? '',
    claim: spec?.claimRef ? `${spec.claimRef.namespace}/${spec.claimRef.name}` : '',
    path: spec?.local?.path ?? '',
  }));
  if (output === 'json') return printJson(volumes);
  print(
    table(
      ['NAME', 'CAPACITY', 'CLASS', 'NODE', 'STATUS', 'CLAIM', 'PATH'],
      volumes.map((volume) => Object.values(volume)),
    ),
  );
}
