/** Quotas as admission sees them: a moment after they are written. */
import { setTimeout as pause } from 'node:timers/promises';
import type { CoreV1Api } from '@kubernetes/client-node';

/** Within this admission knows of a quota, on a busy machine. */
const KNOWN_MS = 60_000;

/** Waits until a claim of 1 GiB is refused for a quota of the namespace, or not refused any more. */
export async function awaitQuota(
  { core }: { readonly core: CoreV1Api },
  namespace: string,
  { refuses }: { readonly refuses: boolean },
): Promise<void> {
  for (const end = Date.now() + KNOWN_MS; (await isRefused(core, namespace)) !== refuses; await pause(100))
    if (Date.now() > end)
      throw new Error(`claims of ${namespace} are ${refuses ? 'never' : 'always'} refused for a quota`);
}

async function isRefused(core: CoreV1Api, namespace: string): Promise<boolean> {
  const resources = { requests: { storage: '1Gi' } };
  const body = { metadata: { generateName: 'asked-' }, spec: { accessModes: ['ReadWriteOnce'], resources } };
  try {
    await core.createNamespacedPersistentVolumeClaim({ namespace, body, dryRun: 'All' });
    return false;
  } catch (error) {
    if (/exceeded quota/.test(String(error))) return true;
    // it refuses everything before it has counted
    if (/status unknown for quota/.test(String(error))) return false;
    throw error;
  }
}
