/** What a DataVolume is cloned from, by its own source or by the DataSource that it names. */
import type { DataVolumeRef } from './data-volume.js';

/** A claim or VolumeSnapshot that is cloned, by name; it need not exist yet. */
export interface CloneSource {
  readonly kind: 'pvc' | 'snapshot';
  readonly namespace: string;
  readonly name: string;
}

/** DataSources that a reference led through, as `namespace/name`, in its order. */
export interface SourceFound {
  readonly source: CloneSource;
  /** Absent where the DataVolume names its source itself. */
  readonly through?: readonly string[];
  readonly waiting?: never;
}

/** A reference that leads nowhere yet; a change of a DataSource can cure it, and wakes the run. */
export interface SourceAwaited {
  readonly source?: never;
  readonly waiting: {
    /** CDI's reason for a DataSource that is not ready: `NotFound`, `NoSource`, `SelfReference`. */
    readonly reason: string;
    /** In words, with the name of the DataSource at fault. */
    readonly message: string;
    /** What is there is wrong and has to be changed; time towards the deadline stands still only for what does not exist yet. */
    readonly counts: boolean;
  };
}

/** Activities of the task queue `dvflow` about sources of clones. */
export interface CloneSourceActivities {
  /**
   * The claim or snapshot that a DataVolume is cloned from: `spec.source.pvc` and `spec.source.snapshot` as they are,
   * `spec.sourceRef` by what the specification of its DataSource says now. Whether the source exists, holds a disk and may be read is
   * not looked at; whether the user may clone from it was judged when DataVolume and DataSource were written.
   * @throws {@link FailureType} `UnsupportedSource` for a DataVolume that is not a clone; `InvalidDataVolume` for one that is gone
   */
  resolveCloneSource(input: { dataVolume: DataVolumeRef }): Promise<SourceFound | SourceAwaited>;
}
