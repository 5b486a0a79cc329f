/**
 * What is remembered of an upload besides the resume record, in the same private directory: whose bytes they are, their beginning,
 * and how many of them lie in scratch space. Written by the process that receives, read by the worker.
 */
import { constants } from 'node:fs';
import { open, readdir, rename, rm } from 'node:fs/promises';
import type { UploadRequest } from '../../types/upload.js';
import type { ContentType } from '../../types.js';
import { createRecordStore, EMPTY_RECORD, type Durable, type RecordStore } from '../resume-record.js';

const STATE = 'upload.json';
const HEAD = 'upload.head';

/** One session's bytes, as far as they are known. */
export interface UploadState {
  readonly session: string;
  /** Length of the whole file, where its client has said it. */
  readonly length?: number;
  /** `algorithm:hex` of the whole file, where its client has said it. */
  readonly checksum?: string;
  /** Bytes of the file that lie in scratch space, synced; absent where it is not kept there. */
  readonly spooled?: number;
  /** The file ends after `spooled`. */
  readonly whole?: boolean;
}

/** What is known of a file before its first byte. */
export function stateOf({ session, length, checksum }: Omit<UploadState, 'spooled' | 'whole'>): UploadState {
  return {
    session,
    ...(length === undefined ? {} : { length }),
    ...(checksum === undefined ? {} : { checksum }),
  };
}

/** Whether what is remembered is of this very file: the same name alone promises nothing. */
export function isFileOf(state: UploadState | undefined, request: UploadRequest): state is UploadState {
  return (
    state?.session === request.session &&
    state.length === request.length &&
    state.checksum === request.checksum
  );
}

/** ETag of a session's file: whoever sends under the same name sends the same file. */
export function etagOf(session: string): string {
  return `"upload-${session}"`;
}

/** The state in a directory (a path, or `/proc/self/fd/<n>`); one that cannot be read counts as none. */
export async function readUploadState(directory: string): Promise<UploadState | undefined> {
  try {
    const state = JSON.parse((await readOwn(`${directory}/${STATE}`)).toString()) as UploadState;
    return typeof state.session === 'string' ? state : undefined;
  } catch {
    return undefined;
  }
}

/** Replaces the state. */
export async function writeUploadState(directory: string, state: UploadState): Promise<void> {
  await replace(directory, STATE, JSON.stringify(state));
}

/** The first bytes of the session's file. @throws Error where they are not there */
export async function readHead(directory: string): Promise<Buffer> {
  return await readOwn(`${directory}/${HEAD}`);
}

/** Keeps the first bytes of a file, for whoever goes on in its middle; then the state that vouches for them. */
export async function keepHead(directory: string, head: Buffer, state: UploadState): Promise<void> {
  await rm(`${directory}/${STATE}`, { force: true });
  await replace(directory, HEAD, head);
  await writeUploadState(directory, state);
}

/**
 * Offset from which this session's file can be received: behind what is durable where it can be entered there, else 0.
 * What says so was written by the process that decodes, and is believed only within the file.
 */
export async function resumeOffset(
  directory: string,
  request: UploadRequest,
  contentType: ContentType = request.contentType,
): Promise<number> {
  const state = await readUploadState(directory);
  if (!isFileOf(state, request)) return 0;
  const { durable, result } = await createRecordStore(directory).load();
  if (result) return request.length ?? 0;
  const offset = state.spooled ?? (contentType === 'archive' ? 0 : entrance(durable, request));
  const most = request.length ?? Number.MAX_SAFE_INTEGER;
  return Number.isSafeInteger(offset) && offset >= 0 && offset <= most ? offset : 0;
}

/** Where `entered` of `read-image.ts` begins to read, in offsets of the file as it is sent. */
function entrance(durable: Durable | undefined, { session, checksum }: UploadRequest): number {
  if (durable?.format !== 'raw' || durable.validators.etag !== etagOf(session)) return 0;
  const [only, ...more] = durable.containers;
  if (only === undefined) return durable.completed;
  const enterable = more.length === 0 && (only === 'gz' || only === 'zst') && checksum === undefined;
  return enterable ? (durable.restart?.inner ?? 0) : 0;
}

/** Forgets every byte; the fencing number stays. */
export async function forgetUpload(directory: string, records: RecordStore): Promise<void> {
  const { fence } = await records.load();
  await records.save({ ...EMPTY_RECORD, fence });
  await removeOwn(directory);
}

async function removeOwn(directory: string): Promise<void> {
  for (const name of await readdir(directory))
    if (name === HEAD || name === STATE) await rm(`${directory}/${name}`, { force: true });
}

/** Follows no link and waits for no FIFO. */
async function readOwn(path: string): Promise<Buffer> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  await using file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  return await file.readFile();
}

async function replace(directory: string, name: string, content: string | Buffer): Promise<void> {
  const temporary = `${directory}/.${name}.new`;
  await rm(temporary, { force: true });
  {
    await using file = await open(temporary, 'wx', 0o600);
    await file.writeFile(content);
    await file.sync();
  }
  await rename(temporary, `${directory}/${name}`);
  await using parent = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  await parent.sync();
}
