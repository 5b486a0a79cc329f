import type { CloneStarted } from '../activities/types/clone.js';
import type { CarriedUpload } from '../activities/types/upload.js';
import type { DataVolumeRef, ImageFacts, LifecycleStatus, TargetPlan } from '../activities/types.js';

/** Something to undo when the run does not succeed. */
export interface Undo {
  readonly what: string;
  readonly run: () => Promise<unknown>;
  /** What cannot be undone is found by the sweeper. @default true */
  readonly isSwept?: boolean;
}

/** What a run that continues as new hands on; members of its input. */
export interface HandedOn {
  /** What the claim was made by, once it is made. */
  target?: TargetPlan;
  /** The image that it was made for. */
  image?: ImageFacts;
  clone?: CloneStarted;
  upload?: CarriedUpload;
}

/** State of one run; the query reads it. */
export interface Run {
  status: LifecycleStatus;
  undo: Undo[];
  /** Something that is waited for may have changed: by the signal `wake`, or by what the run itself was asked. Cleared by each look. */
  woken: boolean;
  /** The signal `wake` has come; cleared by work that looks around when it does, which what the run was asked does not concern. */
  signalled: boolean;
  /** Time of the last progress, ms since the epoch. */
  progressAt: number;
  /** The deadline, where the user has changed it since the run began, in ms. */
  deadlineMs?: number;
  /** What a run that continues as new hands on besides. */
  readonly handedOn: HandedOn;
  /** Time at which the phase was entered, ms since the epoch. */
  phaseAt: number;
}

/** Step in which a lifecycle decides what its claim will be. */
export const PLANNING = 'planning the target';

/** Identity of the DataVolume, without the facts that change. */
export function refOf({ namespace, name, uid }: DataVolumeRef): DataVolumeRef {
  return { namespace, name, uid };
}
