/**
 * The vocabulary that workflows, activities, clients and tests share: types only, nothing here exists at run time.
 *
 * Names are CDI's, Kubernetes' and Temporal's. Everything that crosses a Temporal boundary is a small readonly JSON record
 * that never holds a credential: URLs are shown without user info and query (`displayUrl`), the rest travels in the Secret
 * `transfer-<uid>`.
 */
export type * from './types/data-volume.js';
export type * from './types/failures.js';
export type * from './types/image.js';
export type * from './types/lifecycle.js';
export type * from './types/target.js';
export type * from './types/transfer.js';
export type { FillTarget, ReservedVolume } from './types/local-volumes.js';
