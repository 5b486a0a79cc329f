/** Whose bytes a volume holds, where more than one session has sent some. */
import { Context } from '@temporalio/activity';
import type { UploadRequest } from '../../types/upload.js';
import type { TransferResult } from '../../types.js';
import type { RecordStore } from '../resume-record.js';
import type { Feed } from './feed.js';
import { forgetUpload, isFileOf, readUploadState } from './upload-state.js';

/** Where it is remembered. */
export interface Remembered {
  /** Private directory of the transfer, as a path. */
  readonly directory: string;
  readonly records: RecordStore;
}

/** A disk that an attempt had completed before its worker died. */
export interface Finished {
  readonly result: TransferResult;
  readonly session: string;
  /** It is the very file that is asked for now. */
  readonly same: boolean;
}

/**
 * What an attempt left that was killed between the last sync and its answer. Its client may have been told, so that the disk stays
 * that client's whoever comes next. A result of nobody is forgotten.
 */
export async function findFinished(
  { directory, records }: Remembered,
  request: UploadRequest,
): Promise<Finished | undefined> {
  const { result } = await records.load();
  if (!result) return undefined;
  const state = await readUploadState(directory);
  if (state) return { result, session: state.session, same: isFileOf(state, request) };
  await forgetUpload(directory, records);
  return undefined;
}

/**
 * Forgets what another session has sent when the first byte of this one comes: one that only opens costs nobody anything. Where none
 * comes, resolves to how this one ended.
 */
export async function takeOver(
  request: UploadRequest,
  { directory, records }: Remembered,
  feed: Feed,
): Promise<{ readonly broken: string } | undefined> {
  const state = await readUploadState(directory);
  if (isFileOf(state, request)) return undefined;
  const { durable } = await records.load();
  if (state || durable) {
    const ended = await Promise.race([feed.begun, Context.current().cancelled]);
    if (ended && 'broken' in ended) return ended;
  }
  // a client that sends another file is no source that changes
  await forgetUpload(directory, records);
  return undefined;
}
