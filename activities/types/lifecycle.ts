/** What lifecycles are started with, and what they answer. */
import type { CloneStarted } from './clone.js';
import type { Condition, DataVolumeManifest, DataVolumeRef, Phase, SourceKind } from './data-volume.js';
import type { ImageFacts } from './image.js';
import type { ClaimRef, TargetPlan } from './target.js';
import type { CarriedUpload } from './upload.js';

/** What the watch starts a lifecycle with; the spec is read from the API server. */
export interface DataVolumeStart extends DataVolumeRef {
  /** Value of `dvflow.io/retry` that this run answers; absent on a first run. */
  readonly retry?: string;
  /** Time of the last progress (ms since the epoch) that a run which continued as new hands on, so that its deadline goes on. */
  readonly progressAt?: number;
  /** Of an upload that continues as new: what has come so far. */
  readonly upload?: CarriedUpload;
  /** Of a lifecycle that continues as new: what its claim was made by, and the image that it was made for. */
  readonly target?: TargetPlan;
  readonly image?: ImageFacts;
  /** What a clone that continued as new hands on. */
  readonly clone?: CloneStarted;
}

/** The one argument of a lifecycle: from the watch a reference, from people and programs a manifest, or its JSON or YAML text. */
export type LifecycleInput = DataVolumeStart | DataVolumeManifest | string;

/** Result of `importDataVolume`. */
export interface ImportResult {
  readonly claim: { readonly namespace: string; readonly name: string };
  /** Name of the PersistentVolume; absent for an adopted claim that is not bound yet. */
  readonly volume?: string;
  readonly node?: string;
  readonly virtualSize?: number;
  readonly bytesTransferred?: number;
  readonly bytesWritten?: number;
  readonly checksum?: string;
  /** Session of the upload that filled it: a client that has not heard its last answer asks by it. */
  readonly session?: string;
}

/** What the query `status` answers: the workflow's own facts. */
export interface LifecycleStatus {
  readonly namespace: string;
  readonly name: string;
  readonly uid?: string;
  readonly source?: SourceKind;
  readonly displayUrl?: string;
  readonly phase: Phase;
  /** Step under way, in plain words: `reserving a directory`. */
  readonly step: string;
  readonly conditions: readonly Condition[];
  readonly claim?: ClaimRef;
  readonly node?: string;
  /** Claim of scratch space, while there is one. */
  readonly scratch?: ClaimRef | undefined;
  readonly image?: ImageFacts;
  /** What is waited for and since when (ISO 8601). */
  readonly waiting?: { readonly for: string; readonly since: string };
  readonly failure?: { readonly type: string; readonly message: string };
}
