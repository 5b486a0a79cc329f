/**
 * Typed starts and questions for other programs: everything is an ordinary Temporal call by name, so that a program in another
 * language can do the same.
 */
export type { BlankResult } from '../activities/types/blank.js';
export type { CloneResult } from '../activities/types/clone.js';
export type { LocalBlockVolumeInput, LocalBlockVolumeResult } from '../activities/types/local-volumes.js';
export type {
  DataVolumeManifest,
  FailureType,
  ImportResult,
  LifecycleStatus,
  TransferProgress,
} from '../activities/types.js';
export { failureOf, type ImportFailure } from './failures.js';
export { createLocalBlockVolume, deleteLocalBlockVolume, type LocalVolumeHandle } from './local-volumes.js';
export { ManifestError } from './manifest.js';
export { retry, type PatchDataVolume, type RetryOptions } from './retry.js';
export {
  startBlank,
  startClone,
  startImport,
  startUpload,
  type BlankHandle,
  type CloneHandle,
  type ImportHandle,
  type LifecycleHandle,
  type StartImportOptions,
  type StartOptions,
} from './start.js';
export { status, type ImportStatus, type RunState } from './status.js';
export { cancel, findRun, NoSuchRunError, type Run, type Target } from './target.js';
