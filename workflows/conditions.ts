import type { Condition, DataVolumeEvent, Phase, StatusUpdate } from '../activities/types.js';
import { wordsFor, type Told } from './lifecycle-words.js';

/** What a status is made from besides the phase. The claim has the DataVolume's own name, as CDI gives it. */
export interface StatusFacts extends Told {
  /** What is waited for, in words; shown by condition `Running`. */
  readonly waiting?: { readonly reason: string; readonly message: string };
  /** What is being done, in words; shown by condition `Running` while bytes move. */
  readonly doing?: string;
  /** Whether the claim has its volume, at the end: one that was adopted may get it later. @default true */
  readonly bound?: boolean;
  /** Why the run failed. */
  readonly failure?: { readonly type: string; readonly message: string };
}

/**
 * Phase, conditions, event and progress that clients of CDI read, for one phase of a lifecycle.
 * @see cdi.md §1.2-1.4 (CDI `pkg/controller/datavolume/conditions.go`, `import-controller.go`, `upload-controller.go`, `clone-controller-base.go`)
 */
export function statusFor(phase: Phase, facts: StatusFacts): Omit<StatusUpdate, 'dataVolume'> {
  const event = eventFor(phase, facts);
  const podPhase = POD_PHASES[phase];
  return {
    phase,
    claimName: facts.claim,
    conditions: conditionsFor(phase, facts),
    ...(event ? { event } : {}),
    ...(podPhase ? { podPhase } : {}),
    ...(phase === 'UploadReady'
      ? { podReady: true }
      : phase === 'UploadScheduled'
        ? { podReady: false }
        : {}),
    ...progressOf(phase, facts),
  };
}

/** Progress that a phase begins with; while bytes move it is told by somebody else. An upload that has ended without a disk has none. */
function progressOf(phase: Phase, { waiting }: StatusFacts): { progress?: string } {
  if (phase === 'Succeeded') return { progress: '100.0%' };
  return phase === 'Pending' || (phase === 'UploadReady' && waiting) ? { progress: 'N/A' } : {};
}

/** CDI's `storage.pod.phase`, which virtctl and UIs read on the claim. */
const POD_PHASES: Partial<Record<Phase, NonNullable<StatusUpdate['podPhase']>>> = {
  ImportScheduled: 'Pending',
  UploadScheduled: 'Pending',
  CloneScheduled: 'Pending',
  ImportInProgress: 'Running',
  UploadReady: 'Running',
  CloneInProgress: 'Running',
  Succeeded: 'Succeeded',
};

/** The conditions alone, of {@link statusFor}. */
export function conditionsFor(phase: Phase, facts: StatusFacts): readonly Condition[] {
  const { claim, waiting, failure, doing = '', bound = true } = facts;
  switch (phase) {
    case 'Succeeded':
      return [
        bound
          ? { type: 'Bound', status: 'True', reason: 'Bound', message: `PVC ${claim} Bound` }
          : pendingClaim(claim),
        { type: 'Running', status: 'False', reason: 'Completed', message: wordsFor(facts).complete },
        { type: 'Ready', status: 'True', reason: '', message: '' },
      ];
    case 'Failed':
      return [
        { type: 'Bound', status: 'False', reason: 'NotFound', message: 'No PVC found' },
        {
          type: 'Running',
          status: 'False',
          reason: failure?.type ?? 'Error',
          message: failure?.message ?? '',
        },
        { type: 'Ready', status: 'False', reason: failure?.type ?? 'Error', message: failure?.message ?? '' },
      ];
    case 'ImportInProgress':
    case 'UploadReady':
    case 'CloneInProgress':
      return [
        pendingClaim(claim),
        { type: 'Running', status: 'True', reason: 'Pod is running', message: doing || lastTrouble(waiting) },
        { type: 'Ready', status: 'False', reason: 'TransferRunning', message: '' },
      ];
    case 'ImportScheduled':
    case 'UploadScheduled':
    case 'CloneScheduled':
    case 'WaitForFirstConsumer':
      return [pendingClaim(claim, waiting), ...notRunning(waiting)];
    default:
      return [waiting?.reason === 'Pending' ? pendingClaim(claim) : noClaim(waiting), ...notRunning(waiting)];
  }
}

/** An upload that has failed is ready for the next client, and says why the last one did not succeed. */
function lastTrouble(waiting: StatusFacts['waiting']): string {
  return waiting?.reason === 'UploadFailed' ? waiting.message : '';
}

/** CDI says on `Bound` that scratch space is being made. */
function pendingClaim(claim: string, waiting?: StatusFacts['waiting']): Condition {
  if (waiting?.reason === 'CreatingScratchSpace') return { type: 'Bound', status: 'False', ...waiting };
  return { type: 'Bound', status: 'False', reason: 'Pending', message: `PVC ${claim} Pending` };
}

/** KubeVirt looks for CDI's reason `ErrExceededQuota` on `Bound`. */
function noClaim(waiting: StatusFacts['waiting']): Condition {
  const { reason, message } =
    waiting?.reason === 'ErrExceededQuota' ? waiting : { reason: 'NotFound', message: 'No PVC found' };
  return { type: 'Bound', status: 'False', reason, message };
}

function notRunning(waiting: StatusFacts['waiting']): readonly Condition[] {
  const { reason, message } = waiting ?? { reason: 'Pending', message: '' };
  return [
    { type: 'Running', status: 'False', reason, message },
    { type: 'Ready', status: 'False', reason, message },
  ];
}

/** Waits that are said by an event too. */
const WAITING_EVENTS: Readonly<Record<string, DataVolumeEvent['type']>> = {
  CloneSourceInUse: 'Warning',
  CloneWithoutSource: 'Warning',
  CreatingScratchSpace: 'Normal',
  ErrExceededQuota: 'Warning',
  ErrResourceExists: 'Warning',
  ErrResourceMarkedForDeletion: 'Warning',
  InsufficientCapacity: 'Warning',
  UploadFailed: 'Warning',
  UploadTargetInUse: 'Warning',
};

function eventFor(phase: Phase, facts: StatusFacts): DataVolumeEvent | undefined {
  const { waiting, failure } = facts;
  if (waiting) {
    const type = WAITING_EVENTS[waiting.reason];
    return type && { type, ...waiting };
  }
  const told = wordsFor(facts).events[phase];
  if (phase === 'Failed')
    return {
      type: 'Warning',
      reason: failure?.type ?? 'Error',
      message: failure?.message ?? told?.[1] ?? '',
    };
  return told && { type: 'Normal', reason: told[0], message: told[1] };
}
