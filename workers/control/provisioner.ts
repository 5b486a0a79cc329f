/**
 * Starts a workflow for every plain claim that asks for a volume of a hostpath class. Level-based, and every replica does all of
 * it: the workflow id comes from the claim's uid, so that the first one wins.
 */
import { WorkflowExecutionAlreadyStartedError, type Client } from '@temporalio/client';
import type { KubeConfig, V1PersistentVolumeClaim, V1StorageClass } from '@kubernetes/client-node';
import { WorkflowIdReusePolicy, type Logger } from '@temporalio/common';
import { CSI_PROVISIONER, volumeName } from '../../activities/kubernetes/names.js';
import { asksForVolume, classNameOf, isHostpathClass } from '../../activities/kubernetes/plain-claims.js';
import { CONTROL_QUEUE, provisionWorkflowId } from '../../workflows/task-queues.js';
import { claimFingerprint } from './fingerprints.js';
import { createKeyQueue } from './key-queue.js';
import { startListWatch, type WatchedObject } from './list-watch.js';
import { failedLately, type Runs } from './runs.js';

type Claim = V1PersistentVolumeClaim & WatchedObject;
type StorageClass = V1StorageClass & WatchedObject;

/** How long to gather what frees room before those who wait for it are woken, in ms: a hundred volumes may go at once. */
const ROOM_PAUSE_MS = 2_000;

/** Stands in the queue for everybody who waits; no object's key is empty. */
const EVERYBODY = '';

/** Serves plain claims. */
export interface Provisioner {
  /** To be told of every claim that is listed, changed or gone. */
  changed(key: string, change: { before?: Claim; after?: Claim }): void;
  /** To be told when all claims have been listed. */
  listed(): void;
  /** Some class is there whose room the scheduler reads. */
  hasCapacityClass(): boolean;
  /** Room may have come: those who wait look again. */
  wakeWaiting(): void;
  synced(): boolean;
  stop(): Promise<void>;
}

/** Starts to follow StorageClasses; claims are told. */
export function createProvisioner(options: {
  readonly kubeConfig: KubeConfig;
  readonly client: Client;
  readonly runs: Pick<Runs, 'describe' | 'wake'>;
  readonly logger: Logger;
  readonly relistMs?: number | undefined;
  /** Told of classes that come, go or change. */
  readonly classesChanged?: () => void;
}): Provisioner {
  const { client, runs, logger } = options;
  /** Claims without a volume, by key. */
  const pending = new Map<string, Claim>();
  /** Claims that were pending and are not any more, by key: their runs are to notice. */
  const gone = new Map<string, Claim>();
  /** uids of claims whose run was started or found since the last list. */
  const served = new Set<string>();
  /** uids of pending claims that this replica has asked a run for: only these can have failed before. */
  const asked = new Set<string>();
  const queue = createKeyQueue(async (key) => (key === EVERYBODY ? wakeServed() : reconcile(key)), logger);
  const classes = startListWatch<StorageClass>({
    ...options,
    path: '/apis/storage.k8s.io/v1/storageclasses',
    changed(_, { before, after }) {
      if (before?.metadata.uid !== after?.metadata.uid) options.classesChanged?.();
      if (!before) for (const key of pending.keys()) queue.add(key);
    },
  });

  function isOurs(claim: Claim): boolean {
    const storageClass = classes.get(classNameOf(claim) ?? '');
    return storageClass !== undefined && isHostpathClass(storageClass);
  }

  function asks(claim: Claim): boolean {
    return asksForVolume(claim, classes.get(classNameOf(claim) ?? ''));
  }

  function changed(key: string, { before, after }: { before?: Claim; after?: Claim }): void {
    const known = pending.get(key);
    if (known && isLost(known, after)) gone.set(key, known);
    if (after && !after.spec?.volumeName) pending.set(key, after);
    else pending.delete(key);
    if (known && pending.get(key)?.metadata.uid !== known.metadata.uid) asked.delete(known.metadata.uid);
    if (gone.has(key)) return queue.add(key);
    if (!after || !pending.has(key)) return;
    // What a run waits for has changed, or Kubernetes asks only now.
    const news = !before || claimFingerprint(before) !== claimFingerprint(after);
    if (news || (!served.has(after.metadata.uid) && asks(after))) queue.add(key);
  }

  async function reconcile(key: string): Promise<void> {
    const left = gone.get(key);
    if (left && isOurs(left)) await runs.wake(idOf(left));
    if (gone.get(key) === left) gone.delete(key);
    const claim = pending.get(key);
    if (!claim) return;
    const { uid } = claim.metadata;
    if (served.has(uid)) return void (await runs.wake(idOf(claim)));
    if (!asks(claim)) return;
    // A run that has ended, whatever its claim looks like, is not looked for again before the next list.
    if (!(await start(claim))) await runs.wake(idOf(claim));
    served.add(uid);
  }

  /** `false` where a run is under way, has said the last word about this claim, or failed so lately that another one would too. */
  async function start(claim: Claim): Promise<boolean> {
    const { namespace = '', name, uid } = claim.metadata;
    const latest = asked.has(uid) ? await runs.describe(idOf(claim)) : undefined;
    if (latest && failedLately(latest, Date.now())) return false;
    asked.add(uid);
    try {
      await client.workflow.start('provisionVolume', {
        workflowId: provisionWorkflowId({ namespace, name, uid }),
        taskQueue: CONTROL_QUEUE,
        args: [{ namespace, name, uid }],
        // A refusal completes a run and is said once; one that was terminated or cancelled leaves a claim that still asks.
        workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE_FAILED_ONLY,
        staticSummary: Buffer.from(`Provision ${namespace}/${name}`).subarray(0, 190).toString(),
      });
      return true;
    } catch (error) {
      if (error instanceof WorkflowExecutionAlreadyStartedError) return false;
      throw error;
    }
  }

  function wakeServed(): void {
    for (const [key, claim] of pending) if (served.has(claim.metadata.uid)) queue.add(key);
  }

  return {
    changed,
    listed() {
      // The watch may have missed anything, and so may we: every run is asked for again.
      served.clear();
      for (const key of pending.keys()) queue.add(key);
    },
    wakeWaiting: () => queue.addAfter(EVERYBODY, ROOM_PAUSE_MS),
    hasCapacityClass: () => classes.all().some(({ provisioner }) => provisioner === CSI_PROVISIONER),
    synced: () => classes.synced(),
    async stop() {
      await classes.stop();
      await queue.stop();
    },
  };
}

/** The claim is deleted, replaced, or has a volume that its run did not make. */
function isLost({ metadata: { uid } }: Claim, after: Claim | undefined): boolean {
  if (after?.metadata.uid !== uid) return true;
  const { volumeName: bound = volumeName(uid) } = after.spec ?? {};
  return bound !== volumeName(uid);
}

function idOf({ metadata: { namespace = '', name, uid } }: Claim): string {
  return provisionWorkflowId({ namespace, name, uid });
}
