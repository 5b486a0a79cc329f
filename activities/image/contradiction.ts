import { changedTooOften } from './refusals.js';
import type { ResumeRecord } from './resume-record.js';
import { isContradiction } from './source/http-failures.js';
import type { ImageSource } from './source/types.js';

/**
 * The record in which it is entered for good that the source is to be read in one answer, and the change that it may have been.
 * `undefined` where the error is no contradiction, or none that this can cure.
 */
export function enterContradiction(
  record: ResumeRecord,
  source: ImageSource,
  error: unknown,
): ResumeRecord | undefined {
  if (!isContradiction(error) || !source.inOneAnswer || record.contradicted) return undefined;
  const changes = record.changes + 1;
  return changedTooOften(changes) ? undefined : { ...record, changes, contradicted: true };
}
