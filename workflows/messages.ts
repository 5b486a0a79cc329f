import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';
import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common';
import type { LifecycleStatus } from '../activities/types.js';
import type { PreparationStatus } from '../activities/types/preparation.js';
import type { LocatedUpload, OpenedUpload, UploadRequest } from '../activities/types/upload.js';

/** The workflow's own facts; `client.status()` adds the live progress. */
export const statusQuery = defineQuery<LifecycleStatus>('status');

/** Facts of a run that prepares storage. */
export const preparationQuery = defineQuery<PreparationStatus>('status');

/** What `wake` may carry. */
export interface Woken {
  /** The deadline as the user has it by now, in ms. */
  readonly deadlineMs?: number | undefined;
}

/** Something that the lifecycle may be waiting for has changed: look again now. */
export const wakeSignal = defineSignal<[Woken?]>('wake');

/** The claim asks for no upload any more, and its run is cancelled next: should it ask again, that is for another run to answer. */
export const withdrawSignal = defineSignal('withdraw');

/**
 * Somebody has begun to send a file: the receiving node, slot and resource are opened, and the answer says where the body goes.
 * @throws `ApplicationFailure` with a {@link FailureType}: `UploadInProgress` while another session is being received,
 * `NodeUnavailable` where the node does not answer, `ScratchUnavailable`, `ResourceExists` where the disk is complete already
 */
export const openUploadUpdate = defineUpdate<OpenedUpload, [UploadRequest]>('openUpload');

/**
 * How far a session is. Asks only: no other session gives way, no slot is taken, and nothing that another one has sent is forgotten.
 * @throws `ApplicationFailure` with a {@link FailureType}: `NodeUnavailable` where the node does not answer, `UploadInProgress` while
 * the volume is not ready, `ResourceExists` where the disk is complete already and another session's
 */
export const locateUploadUpdate = defineUpdate<LocatedUpload, [UploadRequest]>('locateUpload');

/** Search attributes that every lifecycle carries; workers refuse to start while one is not registered. */
export const SEARCH_ATTRIBUTES = {
  namespace: defineSearchAttributeKey('DataVolumeNamespace', SearchAttributeType.KEYWORD),
  name: defineSearchAttributeKey('DataVolumeName', SearchAttributeType.KEYWORD),
  uid: defineSearchAttributeKey('DataVolumeUid', SearchAttributeType.KEYWORD),
  phase: defineSearchAttributeKey('DataVolumePhase', SearchAttributeType.KEYWORD),
  source: defineSearchAttributeKey('DataVolumeSource', SearchAttributeType.KEYWORD),
} as const;
