import { hash } from 'node:crypto';
import { rmdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import {
  createRecordStore,
  EMPTY_RECORD,
  removeRecord,
  withoutDurable,
  type RecordStore,
  type ResumeRecord,
} from '../activities/image/resume-record.js';
import { codeOf } from '../activities/node/directories.js';
import { makeDirectories, orRefused } from '../activities/image/target/local-target.js';
import { plainDirectory } from '../activities/without-end.js';

/** Where `dvflow convert` keeps the resume record of one target. */
export interface ConversionState {
  readonly records: RecordStore;
  /**
   * The record of what was interrupted. What was finished, or was begun from another source, says nothing about this one, and is
   * forgotten: of the latter `notice` is told.
   */
  begin(notice: (message: string) => void): Promise<ResumeRecord>;
  /** Whether what is kept here is of another source still: nothing has come of this one. */
  isOfAnother(): Promise<boolean>;
  /** Nothing is to be gone on with: what was kept here is removed, and the directory if it is not the user's. */
  remove(): Promise<void>;
}

/** Longest name of a file that Linux' file systems take, in bytes (`NAME_MAX`). */
const LONGEST_NAME = 255;

/** `TARGET.dvflow`; where that is too long for a name, the target's digest stands for its name. */
function directoryBeside(target: string): string {
  const path = plainDirectory(target);
  const name = `${basename(path)}.dvflow`;
  if (Buffer.byteLength(name) <= LONGEST_NAME) return `${path}.dvflow`;
  return join(dirname(path), `${hash('sha256', basename(path))}.dvflow`);
}

/** What a conversion is of. */
export interface ConversionKey {
  readonly target: string;
  /** Directory that the user has named for the state. */
  readonly named: string | undefined;
  /** Identity of the source: a target that was begun from one is not gone on with from another. */
  readonly source: string;
}

/**
 * Opens the state for `target`: in `TARGET.dvflow`, or in the directory that the user has named, which stays his with all that it
 * holds.
 * @throws {@link FailureType} `ResourceExists`, `NotAuthorized` where it cannot be made
 */
export async function openConversionState({
  target,
  named,
  source,
}: ConversionKey): Promise<ConversionState> {
  const directory = named ?? directoryBeside(target);
  await orRefused(directory, makeDirectories(directory, 0o700));
  const kept = createRecordStore(directory);
  const records: RecordStore = {
    load: async () => ofThis(await kept.load()),
    save: async (record) => {
      const own = { ...record, source };
      await kept.save(own).catch(async (error: unknown) => {
        if (codeOf(error) !== 'ENOENT') throw error;
        // who removed it did not mean to end what is running
        await makeDirectories(directory, 0o700);
        await kept.save(own);
      });
    },
  };

  const isForeign = ({ durable, source: of }: ResumeRecord): boolean =>
    durable !== undefined && of !== source;
  const ofThis = (record: ResumeRecord): ResumeRecord =>
    record.source === source ? record : withoutSource(record);

  async function begin(notice: (message: string) => void): Promise<ResumeRecord> {
    const found = await kept.load();
    if (isForeign(found)) notice(`what was begun in ${target} is of another source: starting from zero`);
    const { result, ...record } = ofThis(found);
    if (!result) return record;
    const begun = withoutDurable(record);
    await records.save(begun);
    return begun;
  }

  async function remove(): Promise<void> {
    await removeRecord(directory).catch((error: unknown) => {
      if (codeOf(error) !== 'ENOENT') throw error;
    });
    // what somebody has put there is not ours to remove
    if (named === undefined) await rmdir(directory).catch(() => undefined);
  }
  return { records, begin, isOfAnother: async () => isForeign(await kept.load()), remove };
}

/** What remains of another source's record: who wrote last, and that the directory of an archive is ours. */
function withoutSource({ fence, directory }: ResumeRecord): ResumeRecord {
  return { ...EMPTY_RECORD, fence, ...(directory === undefined ? {} : { directory }) };
}
