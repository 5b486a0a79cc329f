import { rmdir } from 'node:fs/promises';
import {
  createRecordStore,
  removeRecord,
  withoutDurable,
  type RecordStore,
  type ResumeRecord,
} from '../activities/image/resume-record.js';
import { makeDirectories, orRefused } from '../activities/image/target/local-target.js';

/** Where `dvflow convert` keeps the resume record of one target. */
export interface ConversionState {
  readonly records: RecordStore;
  /** The record of what was interrupted; that of what was finished says nothing about this source, and is forgotten. */
  begin(): Promise<ResumeRecord>;
  /** Nothing is to be gone on with: what was kept here is removed, and the directory if it is not the user's. */
  remove(): Promise<void>;
}

/**
 * Opens the state for `target`: in `TARGET.dvflow`, or in the directory that the user has named, which stays his with all that it
 * holds.
 * @throws {@link FailureType} `ResourceExists`, `NotAuthorized` where it cannot be made
 */
export async function openConversionState(
  target: string,
  named: string | undefined,
): Promise<ConversionState> {
  const directory = named ?? `${target.replace(/(?<=.)\/+$/u, '')}.dvflow`;
  await orRefused(directory, makeDirectories(directory, 0o700));
  const records = createRecordStore(directory);

  async function begin(): Promise<ResumeRecord> {
    const { result, ...record } = await records.load();
    if (!result) return record;
    const begun = withoutDurable(record);
    await records.save(begun);
    return begun;
  }

  async function remove(): Promise<void> {
    await removeRecord(directory);
    // what somebody has put there is not ours to remove
    if (named === undefined) await rmdir(directory).catch(() => undefined);
  }
  return { records, begin, remove };
}
