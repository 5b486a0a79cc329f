import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import { status } from '../../client/index.js';
import { runKubectl } from '../../local/kubectl.js';
import type { StackInfo } from '../../local/types.js';
import { dataVolumeWorkflowId } from '../../workflows/task-queues.js';
import { loadKubernetes } from '../connections.js';
import { openDataVolumes, type DataVolume, type DataVolumes } from '../data-volumes.js';
import { CliError, EXIT, exitCodeOf, failureLine } from '../errors.js';
import { createView, follow } from '../follow.js';

/** What the demo imports. */
export interface DemoSource {
  readonly url: string;
  readonly checksum?: string;
  /** `spec.storage.resources.requests.storage`. */
  readonly size: string;
}

/** Namespace of the demo's DataVolumes. */
export const DEMO_NAMESPACE = 'default';

/** How long a DataVolume may stay without a phase before its workers are taken for dead, in ms. */
const PICKED_UP_MS = 60_000;

/** A manifest in a file, as `kubectl create -f` takes it. */
export interface DemoManifest {
  readonly name: string;
  readonly path: string;
  readonly text: string;
}

/** Writes the manifest that a user would write; its name is new at every run. */
export async function writeManifest(
  directory: string,
  { url, checksum, size }: DemoSource,
): Promise<DemoManifest> {
  const name = `demo-${new Date().toISOString().slice(0, 19).replaceAll(/\D/g, '')}`;
  const text = `apiVersion: cdi.kubevirt.io/v1beta1
kind: DataVolume
metadata:
  name: ${name}
  namespace: ${DEMO_NAMESPACE}
  annotations:
    cdi.kubevirt.io/storage.bind.immediate.requested: "true"
spec:
  source:
    http:
      url: ${JSON.stringify(url)}
${checksum ? `      checksum: ${JSON.stringify(checksum)}\n` : ''}  storage:
    storageClassName: hostpath-provisioner
    resources:
      requests:
        storage: ${JSON.stringify(size)}
`;
  const path = join(directory, `${name}.yaml`);
  await writeFile(path, text);
  return { name, path, text };
}

/** Creates the DataVolume as `kubectl create -f` does, by that very command, and shows it to its end. */
export async function importBy(
  stack: StackInfo,
  client: Client,
  manifest: DemoManifest,
): Promise<{ readonly workflowId: string; readonly runId: string }> {
  const created = await runKubectl(stack.kubectl, ['create', '-f', manifest.path]);
  process.stdout.write(created);
  const dataVolumes = await openDataVolumes(await loadKubernetes(stack));
  const { uid } = (await dataVolumes.get(DEMO_NAMESPACE, manifest.name)).metadata;
  const workflowId = dataVolumeWorkflowId({ namespace: DEMO_NAMESPACE, name: manifest.name, uid });
  const followed = {
    result: (signal: AbortSignal) => untilEnded(dataVolumes, manifest.name, { stack, signal }),
    status: () => status(client, workflowId),
    name: `import of ${manifest.name}`,
  };
  const finished = await follow(client, followed, createView(process.stdout));
  if (finished.status?.phase === 'Failed') throw await failed(finished);
  const { runId } = await client.workflow.getHandle(workflowId).describe();
  return { workflowId, runId };
}

async function untilEnded(
  dataVolumes: DataVolumes,
  name: string,
  { stack, signal }: { readonly stack: StackInfo; readonly signal: AbortSignal },
): Promise<DataVolume> {
  for (const start = Date.now(); ; await sleep(500, undefined, { signal })) {
    const dataVolume = await dataVolumes.get(DEMO_NAMESPACE, name);
    const { phase = '' } = dataVolume.status ?? {};
    if (phase === 'Succeeded' || phase === 'Failed') return dataVolume;
    if (phase === '' && Date.now() - start > PICKED_UP_MS) {
      const logs = join(stack.directory, 'logs');
      throw new CliError(
        `no control worker has taken up ${name} in ${PICKED_UP_MS / 1000} s: see ${logs}`,
        EXIT.unreachable,
      );
    }
  }
}

/** Why a DataVolume failed, from its condition. */
async function failed({ metadata, status }: DataVolume): Promise<CliError> {
  const condition = status?.conditions?.find(({ type }) => type === 'Running');
  const failure = {
    type: condition?.reason ?? 'Unknown',
    message: condition?.message ?? 'no condition says why',
  };
  const text = failureLine(failure as Parameters<typeof failureLine>[0]);
  return new CliError(
    `DataVolume ${metadata.namespace}/${metadata.name} is Failed: ${text}`,
    await exitCodeOf(failure.type),
  );
}
