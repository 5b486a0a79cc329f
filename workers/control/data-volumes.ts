/**
 * Brings each DataVolume and its workflow together, level-based and in both directions (`design.md` §2): one that is to be
 * filled has a run, one that is gone has none. Every replica does all of it; ids and reuse policies make that harmless.
 */
import { WorkflowExecutionAlreadyStartedError, type Client } from '@temporalio/client';
import type { KubeConfig, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import type { Logger } from '@temporalio/common';
import {
  isAwaitingRestore,
  isTerminal,
  parseDeadline,
} from '../../activities/kubernetes/data-volume-facts.js';
import { CDI_GROUP, CDI_VERSION, MARKS } from '../../activities/kubernetes/names.js';
import type { DataVolume } from '../../activities/kubernetes/objects.js';
import { dataVolumeWorkflowId } from '../../workflows/task-queues.js';
import type { DataVolumeWrites } from './data-volume-writes.js';
import { isToAdopt, newsOfClaim } from './finished-claims.js';
import { fingerprint } from './fingerprints.js';
import { createKeyQueue } from './key-queue.js';
import { pickLifecycle, refOf, startOptions } from './lifecycles.js';
import { startListWatch, type ListWatch } from './list-watch.js';
import { isRunOf, type RunFacts, type Runs } from './runs.js';
import { createWorkflowReaper } from './reaper.js';

/** Time until something that another run is about to decide is looked at again, in ms. */
const LOOK_AGAIN_MS = 2_000;

/** Stands in the queue for the look at running workflows whose DataVolume is gone; no object's key is empty. */
const ORPHANS = '';

/** A DataVolume with the run that serves it. */
export interface ServedDataVolume {
  readonly dataVolume: DataVolume;
  readonly workflowId: string;
}

/** The DataVolumes of the cluster under watch. */
export interface DataVolumeWatch {
  /** Those whose run is under way, as far as is known. */
  served(): readonly ServedDataVolume[];
  /** The DataVolume as last heard of. */
  get(key: string): DataVolume | undefined;
  /** Something that this DataVolume's run may be waiting for has changed; `lost`: what it fills is gone, even while bytes move. */
  wake(key: string, lost?: boolean): void;
  /** The run that was known is not: look again. */
  doubt(key: string): void;
  synced(): boolean;
  stop(): Promise<void>;
}

/** What the watch works with. */
export interface DataVolumeWatchOptions {
  readonly kubeConfig: KubeConfig;
  readonly client: Client;
  readonly runs: Runs;
  readonly writes: DataVolumeWrites;
  readonly logger: Logger;
  readonly relistMs?: number | undefined;
  /** The claim of this key, if there is one; undefined while that is not known. */
  claimOf?(key: string): { readonly claim: V1PersistentVolumeClaim | undefined } | undefined;
  /** Told of every DataVolume that is listed, changed or gone. */
  changed?(key: string, change: { before?: DataVolume; after?: DataVolume }): void;
}

/** Starts to watch every DataVolume of the cluster. */
export function watchDataVolumes(options: DataVolumeWatchOptions): DataVolumeWatch {
  const { client, runs, writes, logger } = options;
  /** Workflow id of the run that serves a DataVolume, by uid; forgotten when it must be asked again. */
  const serving = new Map<string, string>();
  /** Value of `dvflow.io/retry` for which a run was started, by uid. */
  const answered = new Map<string, string>();
  const wakes = new Set<string>();
  /** Those of {@link wakes} whose claim is gone. */
  const losses = new Set<string>();
  /** Those of {@link wakes} whose deadline is another one: a run that moves bytes may wait again. */
  const deadlines = new Set<string>();
  const reaper = createWorkflowReaper({ runs, writes, logger });
  const queue = createKeyQueue((key) => (key === ORPHANS ? reaper.cancelOrphans() : reconcile(key)), logger);

  const list: ListWatch<DataVolume> = startListWatch<DataVolume>({
    ...options,
    path: `/apis/${CDI_GROUP}/${CDI_VERSION}/datavolumes`,
    changed(key, change) {
      options.changed?.(key, change);
      const { before, after } = change;
      if (before && before.metadata.uid !== after?.metadata.uid) forget(before);
      // What a run waits for may have come while nobody watched.
      if (after && (!before || fingerprint(before) !== fingerprint(after))) wakes.add(key);
      if (after && deadlineOf(before) !== deadlineOf(after)) deadlines.add(key);
      queue.add(key);
    },
    listed() {
      // The watch may have missed anything, and so may we: every run is asked for again.
      serving.clear();
      queue.add(ORPHANS);
    },
  });

  function forget(gone: DataVolume): void {
    serving.delete(gone.metadata.uid);
    answered.delete(gone.metadata.uid);
    reaper.add(gone);
  }

  async function reap(key: string): Promise<void> {
    if (!(await reaper.cancelRunsOf(key))) queue.addAfter(key, LOOK_AGAIN_MS);
  }

  async function reconcile(key: string): Promise<void> {
    await reap(key);
    const dataVolume = list.get(key);
    if (!dataVolume) return;
    if (dataVolume.metadata.deletionTimestamp) {
      forget(dataVolume);
      return await reap(key);
    }
    // no run makes its disk anew, nor is missed
    if (isAwaitingRestore(dataVolume.status)) return await tellClaim(key, dataVolume);
    if (isTerminal(dataVolume.status?.phase)) {
      await tellClaim(key, dataVolume);
      return await answerRetry(key, dataVolume);
    }
    await serve(dataVolume);
    await tell(key, dataVolume.metadata.uid);
  }

  async function tellClaim(key: string, dataVolume: DataVolume): Promise<void> {
    const known = options.claimOf?.(key);
    if (known && (isToAdopt(dataVolume, known.claim) || newsOfClaim(dataVolume, known.claim)))
      await writes.tellClaim(dataVolume);
  }

  /** `dvflow.io/retry` on a terminal DataVolume; the run that answers writes `dvflow.io/retried` first. */
  async function answerRetry(key: string, dataVolume: DataVolume): Promise<void> {
    const { annotations = {}, uid } = dataVolume.metadata;
    serving.delete(uid);
    wakes.delete(key);
    losses.delete(key);
    deadlines.delete(key);
    const retry = annotations[MARKS.retry];
    const { workflowType, source } = pickLifecycle(dataVolume);
    if (!workflowType || !retry || retry === annotations[MARKS.retried]) return;
    // One run for each value: one that cannot even open its DataVolume must not be started for ever.
    if (answered.get(uid) === retry) return;
    // The phase is written before the clean-up ends: of the run that made the DataVolume, or of a retry before this one.
    const before = [
      await findMarked(dataVolume),
      await runs.describe(dataVolumeWorkflowId(refOf(dataVolume))),
    ];
    if (before.some((run) => run?.running)) return queue.addAfter(key, LOOK_AGAIN_MS);
    try {
      await client.workflow.start(workflowType, startOptions(dataVolume, source, retry));
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
      // it may have been started for another value
      return queue.addAfter(key, LOOK_AGAIN_MS);
    }
    answered.set(uid, retry);
  }

  async function serve(dataVolume: DataVolume): Promise<void> {
    const ref = refOf(dataVolume);
    if (serving.has(ref.uid)) return;
    const lifecycle = pickLifecycle(dataVolume);
    if (!lifecycle.workflowType) {
      const { reason: message } = lifecycle;
      return await writes.sayOnce(dataVolume, { type: 'Normal', reason: 'LifecycleNotServed', message });
    }
    // once a retry was answered, a run of the maker's id is one that is about to be refused
    const isRetried = dataVolume.metadata.annotations?.[MARKS.retried] !== undefined;
    const marked = isRetried ? undefined : await findMarked(dataVolume);
    if (marked?.running) return void serving.set(ref.uid, marked.workflowId);
    if (marked) return await serveAfter(dataVolume, marked);
    try {
      const handle = await client.workflow.start(
        lifecycle.workflowType,
        startOptions(dataVolume, lifecycle.source),
      );
      serving.set(ref.uid, handle.workflowId);
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
      const closed = await runs.describe(dataVolumeWorkflowId(ref));
      if (closed) await serveAfter(dataVolume, closed);
    }
  }

  /** The run that the DataVolume's mark names, believed only if that run names the DataVolume too. */
  async function findMarked(dataVolume: DataVolume): Promise<RunFacts | undefined> {
    const ref = refOf(dataVolume);
    const mark = dataVolume.metadata.annotations?.[MARKS.workflowId];
    if (!mark || mark === dataVolumeWorkflowId(ref)) return undefined;
    const run = await runs.describe(mark);
    if (!run || !isRunOf(run, ref)) return undefined;
    // One that has ended without ever having read the uid was not this DataVolume's.
    return run.running || run.names.uid !== undefined ? run : undefined;
  }

  /** A run was found closed: under a phase that is still not terminal, somebody ended it, unless a retry runs. */
  async function serveAfter(dataVolume: DataVolume, closed: RunFacts): Promise<void> {
    const ref = refOf(dataVolume);
    // Read after the run was seen closed, and Temporal asked once more after that: a retry may have begun in between.
    const found = await writes.find(ref);
    if (found?.metadata.uid !== ref.uid || isTerminal(found.status?.phase)) return;
    if (isAwaitingRestore(found.status)) return;
    const latest = (await runs.describe(dataVolumeWorkflowId(ref))) ?? closed;
    if (latest.running) return void serving.set(ref.uid, latest.workflowId);
    const failure = await runs.explain(latest);
    logger.warn('a run ended without a terminal phase', { ...ref, workflowId: latest.workflowId, failure });
    await writes.fail(found, failure);
  }

  async function tell(key: string, uid: string): Promise<void> {
    const workflowId = serving.get(uid);
    if (!wakes.has(key) || workflowId === undefined) return;
    wakes.delete(key);
    const lost = losses.delete(key);
    const changed = deadlines.delete(key);
    // While bytes move nothing is waited for, and claim and volume change by our own hand.
    const dataVolume = list.get(key);
    const phase = dataVolume?.status?.phase;
    if (!lost && !changed && (phase === 'ImportInProgress' || phase === 'CloneInProgress')) return;
    try {
      const deadlineMs = parseDeadline(deadlineOf(dataVolume));
      if (!(await runs.wake(workflowId, { deadlineMs }))) {
        serving.delete(uid);
        queue.add(key);
      }
    } catch (error) {
      wakes.add(key);
      if (lost) losses.add(key);
      if (changed) deadlines.add(key);
      throw error;
    }
  }

  return {
    served: () =>
      list.all().flatMap((dataVolume) => {
        const workflowId = serving.get(dataVolume.metadata.uid);
        return workflowId === undefined ? [] : [{ dataVolume, workflowId }];
      }),
    get: (key) => list.get(key),
    wake(key, lost = false) {
      wakes.add(key);
      if (lost) losses.add(key);
      queue.add(key);
    },
    doubt(key) {
      const uid = list.get(key)?.metadata.uid;
      if (uid !== undefined) serving.delete(uid);
      queue.add(key);
    },
    synced: () => list.synced(),
    async stop() {
      await list.stop();
      await queue.stop();
    },
  };
}

function deadlineOf(dataVolume: DataVolume | undefined): string | undefined {
  return dataVolume?.metadata.annotations?.[MARKS.deadline];
}
