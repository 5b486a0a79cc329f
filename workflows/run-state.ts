import type { CloneStarted } from '../activities/types/clone.js';
import type { CarriedUpload } from '../activities/types/upload.js';
import type { DataVolumeRef, LifecycleStatus } from '../activities/types.js';

/** Something to undo when the run does not succeed. */
export interface Undo {
  readonly what: string;
  readonly run: () => Promise<unknown>;
}

/** What a run that continues as new hands on; members of its input. */
export interface HandedOn {
  clone?: CloneStarted;
  upload?: CarriedUpload;
}

/** State of one run; the query reads it. */
export interface Run {
  status: LifecycleStatus;
  undo: Undo[];
  woken: boolean;
  /** The signal `wake` has come; cleared by work that looks around when it does. */
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

/** Identity of the DataVolume, without the facts that change. */
export function refOf({ namespace, name, uid }: DataVolumeRef): DataVolumeRef {
  return { namespace, name, uid };
}
