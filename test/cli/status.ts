import type { ImportStatus } from '../../client/index.js';

/** A status as a test wants it: a transfer under way, unless told otherwise. */
export function statusOf(change: Partial<ImportStatus> = {}): ImportStatus {
  return {
    namespace: 'team-a',
    name: 'vm1',
    workflowId: 'datavolume/team-a/vm1/u1',
    runId: 'r1',
    state: 'RUNNING',
    startedAt: new Date('2026-11-23T10:00:00Z'),
    phase: 'ImportInProgress',
    step: 'transferring the image',
    conditions: [],
    retrying: [],
    ...change,
  };
}

/** Progress of a transfer that is half done. */
export const HALF_DONE = {
  phase: 'transferring',
  bytesRead: 512 * 1024 ** 2,
  bytesReadTotal: 1024 ** 3,
  bytesWritten: 768 * 1024 ** 2,
  fraction: 0.5,
  rate: 64 * 1024 ** 2,
  attempt: 1,
  barren: 0,
} as const;
