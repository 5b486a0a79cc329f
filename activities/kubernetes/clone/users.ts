/** Who writes to a claim. */
import type { V1Pod, V1PodSpec, V1Volume } from '@kubernetes/client-node';
import { listAll } from '../client.js';
import type { Kubernetes } from '../client.js';

/** The pods of a namespace. */
export type ListPods = (namespace: string) => Promise<readonly V1Pod[]>;

/** Lists the pods of namespaces, each time anew. */
export function podsOf({ core }: Kubernetes): ListPods {
  return async (namespace) =>
    await listAll(`listing pods of namespace ${namespace}`, (page) =>
      core.listNamespacedPod({ namespace, ...page }),
    );
}

/** Lists each namespace once, for those who look at many claims at one time. */
export function once(list: ListPods): ListPods {
  const listed = new Map<string, ReturnType<ListPods>>();
  return async (namespace) => {
    const pods = listed.get(namespace) ?? list(namespace);
    listed.set(namespace, pods);
    return await pods;
  };
}

/** Pods that use a claim and may write to it, as `namespace/name`, by name. A pod that has ended uses nothing. */
export async function writersOf(
  list: ListPods,
  { namespace, name }: { readonly namespace: string; readonly name: string },
): Promise<readonly string[]> {
  const pods = await list(namespace);
  return pods
    .filter((pod) => writesTo(pod, name))
    .map(({ metadata }) => `${namespace}/${metadata?.name}`)
    .sort();
}

/** Whether a pod may write to the claim; one that mounts it read-only everywhere may not (CDI's `GetPodsUsingPVCs`). */
export function writesTo({ metadata, spec, status }: V1Pod, claim: string): boolean {
  if (!spec || ['Succeeded', 'Failed'].includes(status?.phase ?? '')) return false;
  const volumes = (spec.volumes ?? []).filter((volume) => claimOf(volume, metadata?.name ?? '') === claim);
  return volumes.some(
    ({ name, persistentVolumeClaim }) => !persistentVolumeClaim?.readOnly && !isReadOnly(spec, name),
  );
}

function claimOf({ name, persistentVolumeClaim, ephemeral }: V1Volume, pod: string): string | undefined {
  return persistentVolumeClaim?.claimName ?? (ephemeral ? `${pod}-${name}` : undefined);
}

/** A device has no read-only form, and a volume that nobody mounts yet may be mounted by a container to come. */
function isReadOnly(
  { containers, initContainers = [], ephemeralContainers = [] }: V1PodSpec,
  volume: string,
): boolean {
  const all = [...containers, ...initContainers, ...ephemeralContainers];
  if (all.some(({ volumeDevices = [] }) => volumeDevices.some(({ name }) => name === volume))) return false;
  const mounts = all.flatMap(({ volumeMounts = [] }) => volumeMounts).filter(({ name }) => name === volume);
  return mounts.length > 0 && mounts.every(({ readOnly }) => readOnly === true);
}
