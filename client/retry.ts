import type { KubeConfig } from '@kubernetes/client-node';

/** Applies a JSON merge patch to one DataVolume; for programs that have a Kubernetes client of their own. */
export type PatchDataVolume = (
  dataVolume: { namespace: string; name: string },
  patch: object,
) => Promise<unknown>;

/** How a DataVolume runs once more. */
export interface RetryOptions {
  /** Lets the first pod that uses the claim choose its node, whatever the DataVolume asked for: takes its annotation off. */
  readonly waitForConsumer?: boolean;
}

/** CDI's annotation that a claim is to be bound at once. */
const AT_ONCE = 'cdi.kubevirt.io/storage.bind.immediate.requested';

/**
 * Lets a DataVolume that is `Failed` or `Succeeded` run once more: sets the annotation `dvflow.io/retry` to a new value, which the
 * watch answers. Needs the right to patch DataVolumes in that namespace, none in Temporal.
 * @returns the annotation's value
 */
export async function retry(
  kubernetes: KubeConfig | PatchDataVolume,
  dataVolume: { readonly namespace: string; readonly name: string },
  { waitForConsumer }: RetryOptions = {},
): Promise<string> {
  const patch = typeof kubernetes === 'function' ? kubernetes : await patchBy(kubernetes);
  const value = new Date().toISOString();
  const annotations = { 'dvflow.io/retry': value, ...(waitForConsumer ? { [AT_ONCE]: null } : {}) };
  await patch(dataVolume, { metadata: { annotations } });
  return value;
}

async function patchBy(kubeConfig: KubeConfig): Promise<PatchDataVolume> {
  // 0.65 s to import: only who retries pays for it.
  const { CustomObjectsApi, PatchStrategy, setHeaderOptions } =
    await import('../activities/kubernetes/library.js');
  const api = kubeConfig.makeApiClient(CustomObjectsApi);
  return async ({ namespace, name }, body) => {
    await api.patchNamespacedCustomObject(
      { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'datavolumes', namespace, name, body },
      setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
    );
  };
}
