/**
 * Starts a run for every claim that asks for an upload and has no DataVolume, and ends that of one that is gone. Level-based, and
 * every replica does all of it.
 */
import { WorkflowExecutionAlreadyStartedError, type Client } from '@temporalio/client';
import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { WorkflowIdReusePolicy, type Logger } from '@temporalio/common';
import { isUploadTarget } from '../../activities/kubernetes/plain-claims.js';
import { CONTROL_QUEUE, uploadClaimWorkflowId } from '../../workflows/task-queues.js';
import { claimFingerprint } from './fingerprints.js';
import { createKeyQueue } from './key-queue.js';
import type { WatchedObject } from './list-watch.js';
import type { Runs } from './runs.js';

type Claim = V1PersistentVolumeClaim & WatchedObject;

/** Serves claims that ask for an upload. */
export interface UploadClaims {
  /** To be told of every claim that is listed, changed or gone. */
  changed(key: string, change: { before?: Claim; after?: Claim }): void;
  /** To be told when all claims have been listed. */
  listed(): void;
  stop(): Promise<void>;
}

/** Serves the claims that it is told of. */
export function createUploadClaims({
  client,
  runs,
  logger,
}: {
  readonly client: Client;
  readonly runs: Pick<Runs, 'wake' | 'describe' | 'cancel'>;
  readonly logger: Logger;
}): UploadClaims {
  /** Claims that ask, by key. */
  const asking = new Map<string, Claim>();
  /** Claims that asked and are gone, by key: their runs are ended. */
  const gone = new Map<string, Claim>();
  /** uids of claims whose run was started or found since the last list. */
  const served = new Set<string>();
  const queue = createKeyQueue(reconcile, logger);

  function changed(key: string, { before, after }: { before?: Claim; after?: Claim }): void {
    const known = asking.get(key) ?? (before && isUploadTarget(before) ? before : undefined);
    if (known && known.metadata.uid !== after?.metadata.uid) gone.set(key, known);
    if (after && isUploadTarget(after)) asking.set(key, after);
    else asking.delete(key);
    const news = !before || claimFingerprint(before) !== claimFingerprint(after);
    if (gone.has(key) || (asking.has(key) && (news || !served.has(after?.metadata.uid ?? ''))))
      queue.add(key);
  }

  async function reconcile(key: string): Promise<void> {
    const left = gone.get(key);
    if (left) {
      const run = await runs.describe(idOf(left));
      if (run?.running) await runs.cancel(run);
      if (gone.get(key) === left) gone.delete(key);
    }
    const claim = asking.get(key);
    if (!claim) return;
    const { uid } = claim.metadata;
    if (served.has(uid) || !(await start(claim))) await runs.wake(idOf(claim));
    served.add(uid);
  }

  /** `false` where a run is under way, or has ended with its last word. */
  async function start(claim: Claim): Promise<boolean> {
    const { namespace = '', name, uid } = claim.metadata;
    try {
      await client.workflow.start('uploadClaim', {
        workflowId: idOf(claim),
        taskQueue: CONTROL_QUEUE,
        args: [{ namespace, name, uid }],
        // one that failed has said so on the claim, which asks no more; one that was terminated has not
        workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
        staticSummary: Buffer.from(`Upload into claim ${namespace}/${name}`).subarray(0, 190).toString(),
      });
      return true;
    } catch (error) {
      if (error instanceof WorkflowExecutionAlreadyStartedError) return false;
      throw error;
    }
  }

  return {
    changed,
    listed() {
      served.clear();
      for (const key of asking.keys()) queue.add(key);
    },
    stop: () => queue.stop(),
  };
}

function idOf({ metadata: { namespace = '', name, uid } }: Claim): string {
  return uploadClaimWorkflowId({ namespace, name, uid });
}
