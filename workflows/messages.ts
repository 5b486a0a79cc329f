import { defineQuery, defineSignal } from '@temporalio/workflow';
import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common';
import type { LifecycleStatus } from '../activities/types.js';
import type { PreparationStatus } from '../activities/types/preparation.js';

/** The workflow's own facts; `client.status()` adds the live progress. */
export const statusQuery = defineQuery<LifecycleStatus>('status');

/** Facts of a run that prepares storage. */
export const preparationQuery = defineQuery<PreparationStatus>('status');

/** Something that the lifecycle may be waiting for has changed: look again now. Carries nothing. */
export const wakeSignal = defineSignal('wake');

/** Search attributes that every lifecycle carries; workers refuse to start while one is not registered. */
export const SEARCH_ATTRIBUTES = {
  namespace: defineSearchAttributeKey('DataVolumeNamespace', SearchAttributeType.KEYWORD),
  name: defineSearchAttributeKey('DataVolumeName', SearchAttributeType.KEYWORD),
  uid: defineSearchAttributeKey('DataVolumeUid', SearchAttributeType.KEYWORD),
  phase: defineSearchAttributeKey('DataVolumePhase', SearchAttributeType.KEYWORD),
  source: defineSearchAttributeKey('DataVolumeSource', SearchAttributeType.KEYWORD),
} as const;
