/**
 * Starts a run for every claim that asks for an upload and has no DataVolume, and ends that of one that is gone or asks no more.
 * Level-based, and every replica does all of it.
 */
import { WorkflowExecutionAlreadyStartedError, type Client } from '@temporalio/client';
import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { WorkflowIdReusePolicy, type Logger } from '@temporalio/common';
import { CDI_ANNOTATIONS, MARKS } from '../../activities/kubernetes/names.js';
import { parseDeadline } from '../../activities/kubernetes/data-volume-facts.js';
import { asksForUpload, isUploadTarget, unansweredRetry } from '../../activities/kubernetes/plain-claims.js';
import { CONTROL_QUEUE, uploadClaimWorkflowId } from '../../workflows/task-queues.js';
import { claimFingerprint } from './fingerprints.js';
import { createKeyQueue } from './key-queue.js';
import type { WatchedObject } from './list-watch.js';
import type { Runs } from './runs.js';

type Claim = V1PersistentVolumeClaim & WatchedObject;

/** A run that ends is looked at so often. */
const AGAIN_MS = 1_000;

/** A claim whose run is to end. */
interface Gone {
  readonly claim: Claim;
  /** It is there, and may ask again. */
  readonly alive: boolean;
  /** The run that has been told so. */
  told?: string;
}

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
  readonly runs: Pick<Runs, 'wake' | 'withdraw' | 'describe' | 'cancel'>;
  readonly logger: Logger;
}): UploadClaims {
  /** Claims that ask, by key. */
  const asking = new Map<string, Claim>();
  /** Claims that asked and are gone, or ask no more, by key: their runs are ended. */
  const gone = new Map<string, Gone>();
  /** uids of claims whose run was started or found since the last list. */
  const served = new Set<string>();
  const queue = createKeyQueue(reconcile, logger);

  function changed(key: string, { before, after }: { before?: Claim; after?: Claim }): void {
    const known = asking.get(key) ?? (before && isUploadTarget(before) ? before : undefined);
    const { uid = '', deletionTimestamp } = after?.metadata ?? {};
    // a finalizer keeps every claim for a moment, in which it asks as before and is lost already
    const alive = known?.metadata.uid === uid && !deletionTimestamp;
    if (known && !(alive && after && asksForUpload(after))) gone.set(key, { claim: known, alive });
    if (after && isUploadTarget(after)) asking.set(key, after);
    else {
      asking.delete(key);
      served.delete(uid);
    }
    const news = !before || fingerprint(before) !== fingerprint(after);
    if (gone.has(key) || (asking.has(key) && (news || !served.has(uid)))) queue.add(key);
  }

  async function reconcile(key: string): Promise<void> {
    const left = gone.get(key);
    if (left && !(await end(key, left))) return queue.addAfter(key, AGAIN_MS);
    const claim = asking.get(key);
    if (!claim) return;
    const { uid } = claim.metadata;
    const retry = unansweredRetry(claim);
    if ((served.has(uid) && retry === undefined) || !(await start(claim, retry))) {
      // the run that has failed says so before it has ended
      if (retry !== undefined) return queue.addAfter(key, AGAIN_MS);
      const deadlineMs = parseDeadline(claim.metadata.annotations?.[MARKS.deadline]);
      await runs.wake(idOf(claim), { deadlineMs });
    }
    served.add(uid);
  }

  /** Ends the run of a claim; `false` while it must have ended before the same claim can be served again. */
  async function end(key: string, left: Gone): Promise<boolean> {
    const run = await runs.describe(idOf(left.claim));
    if (run?.running && left.alive && left.told !== run.runId) {
      // it may ask again before the run has cleaned up, whose failure would be taken for the answer
      await runs.withdraw(run);
      left.told = run.runId;
    }
    if (run?.running) await runs.cancel(run);
    if (run?.running && left.alive) return false;
    if (gone.get(key) === left) gone.delete(key);
    return true;
  }

  /** `false` where a run is under way. */
  async function start(claim: Claim, retry: string | undefined): Promise<boolean> {
    const { ALLOW_DUPLICATE, ALLOW_DUPLICATE_FAILED_ONLY } = WorkflowIdReusePolicy;
    // one that failed has said so on the claim, which asks no more; one that was terminated has not
    const usual = retry === undefined ? ALLOW_DUPLICATE_FAILED_ONLY : ALLOW_DUPLICATE;
    if (await startUnlessThere(claim, retry, usual)) return true;
    // one that has completed filled the claim before it asked again, or did not find it asking; too soon, the next one finds the same
    const last = await runs.describe(idOf(claim));
    return last?.status === 'COMPLETED' && (await startUnlessThere(claim, retry, ALLOW_DUPLICATE));
  }

  async function startUnlessThere(
    claim: Claim,
    retry: string | undefined,
    workflowIdReusePolicy: WorkflowIdReusePolicy,
  ): Promise<boolean> {
    const { namespace = '', name, uid } = claim.metadata;
    try {
      await client.workflow.start('uploadClaim', {
        workflowId: idOf(claim),
        taskQueue: CONTROL_QUEUE,
        args: [{ namespace, name, uid, ...(retry === undefined ? {} : { retry }) }],
        workflowIdReusePolicy,
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

/** What is news to a run, or to whether there is to be one. */
function fingerprint(claim: Claim | undefined): string {
  const { annotations = {} } = claim?.metadata ?? {};
  const own = [CDI_ANNOTATIONS.podPhase, MARKS.retry, MARKS.deadline].map((name) => annotations[name]);
  return JSON.stringify([claimFingerprint(claim), own]);
}

function idOf({ metadata: { namespace = '', name, uid } }: Claim): string {
  return uploadClaimWorkflowId({ namespace, name, uid });
}
