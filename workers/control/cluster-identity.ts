/**
 * One Temporal namespace, one cluster: the task queues have fixed names, and the control role cancels every run whose DataVolume it does
 * not find. Two clusters on one namespace would end each other's work, so that the namespace says whose it is.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { ApiException, type KubeConfig } from '@kubernetes/client-node';
import type { Client } from '@temporalio/client';
import type { Logger } from '@temporalio/common';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import { backOff } from './key-queue.js';

/** Key in the data of a Temporal namespace; its value is the uid of the cluster's namespace `kube-system`. */
export const CLUSTER_KEY = 'dvflow.io/cluster';

/** Longest pause before Kubernetes is asked again, in ms. */
const LONGEST_PAUSE_MS = 10_000;

/**
 * gRPC codes of who may not ask or write: INVALID_ARGUMENT and FAILED_PRECONDITION, as a replicated server answers that is not the
 * namespace's active one, PERMISSION_DENIED, and UNIMPLEMENTED as managed servers answer.
 */
const NOT_OFFERED: readonly number[] = [3, 7, 9, 12];

/** Whose cluster it is, and where that is kept. */
export interface ClusterIdentityOptions {
  readonly kubeConfig: KubeConfig;
  readonly client: Pick<Client, 'workflowService'>;
  readonly temporalNamespace: string;
  /** Whoever had it, this cluster has it now. @default false */
  readonly take?: boolean;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
}

/**
 * Makes the Temporal namespace this cluster's where it is nobody's. Where that cannot be found out, a warning says so. Waits for a
 * Kubernetes that does not answer; `false` once the worker is told to end meanwhile.
 * @throws Error naming both clusters where the namespace is another one's
 */
export async function claimTemporalNamespace(
  options: ClusterIdentityOptions,
  told: AbortSignal,
): Promise<boolean> {
  const { temporalNamespace } = options;
  const uid = await clusterUid(options, told);
  if (told.aborted) return false;
  const owner = uid === undefined ? undefined : await ownerOf(options, uid);
  if (owner === undefined || owner === uid) return true;
  throw new Error(
    `Temporal namespace ${temporalNamespace} belongs to the cluster whose namespace kube-system has the uid ${owner}, and this ` +
      `cluster's has ${uid}: give each cluster a Temporal namespace of its own. Where this cluster takes the place of that one, which ` +
      `runs dvflow no more: temporal operator namespace update --namespace ${temporalNamespace} --data ${CLUSTER_KEY}=${uid}`,
  );
}

/** `undefined` where it may not be read. */
async function clusterUid(
  { kubeConfig, logger, temporalNamespace }: ClusterIdentityOptions,
  told: AbortSignal,
): Promise<string | undefined> {
  const { core } = createKubernetes(kubeConfig);
  for (let failures = 1; !told.aborted; failures++) {
    try {
      return (await core.readNamespace({ name: 'kube-system' })).metadata?.uid;
    } catch (error) {
      if (error instanceof ApiException && [403, 404].includes(error.code)) {
        logger.warn('whether another cluster uses this Temporal namespace is not known', {
          temporalNamespace,
          error,
        });
        return undefined;
      }
      const retryInMs = Math.min(backOff(failures), LONGEST_PAUSE_MS);
      logger.warn('Kubernetes does not answer yet', { error, retryInMs });
      await pause(retryInMs, undefined, { signal: told }).catch(() => undefined);
    }
  }
  return undefined;
}

/** Who has the namespace, after it was offered to `uid`; `undefined` where that cannot be found out. */
async function ownerOf(
  { client: { workflowService }, temporalNamespace: namespace, take = false, logger }: ClusterIdentityOptions,
  uid: string,
): Promise<string | undefined> {
  const read = async (): Promise<string | undefined> =>
    (await workflowService.describeNamespace({ namespace })).namespaceInfo?.data?.[CLUSTER_KEY] || undefined;
  try {
    const before = await read();
    if (before !== undefined && (before === uid || !take)) return before;
    // other data stays: the server merges
    await workflowService.updateNamespace({ namespace, updateInfo: { data: { [CLUSTER_KEY]: uid } } });
    logger.info('Temporal namespace taken for this cluster', { temporalNamespace: namespace, cluster: uid });
    // another cluster may have written at the same time; the last one has it
    return await read();
  } catch (error) {
    if (!isNotOffered(error)) throw error;
    logger.warn('whether another cluster uses this Temporal namespace is not known', {
      temporalNamespace: namespace,
      error,
    });
    return undefined;
  }
}

function isNotOffered(error: unknown): boolean {
  return error instanceof Error && 'code' in error && NOT_OFFERED.includes(Number(error.code));
}
