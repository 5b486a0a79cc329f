import { constants } from 'node:fs';
import { open, readdir, rename, rm } from 'node:fs/promises';
import type { Owner } from '../node/directories.js';
import type { Container, ImageFacts, ImageFormat, SourceValidators, TransferResult } from '../types.js';
import { orNoSpace } from './no-space.js';
import { haveSameStrongEtag } from './source/ranges.js';
import type { RestartPoint } from './source/types.js';

/** What tells that a file is still the one that was written. */
export interface TargetFileFacts {
  readonly inode: number;
  readonly bytes: number;
}

/** How far a transfer has come, in a form that a later attempt can prove (`design.md` §7.9). */
export interface Durable {
  readonly validators: SourceValidators;
  readonly format: ImageFormat;
  readonly containers: readonly Container[];
  readonly plan: ImageFacts['plan'];
  readonly virtualSize?: number;
  readonly diskBytes: number;
  /** The file that was written, and its size when the record was made; absent for a device. */
  readonly file?: TargetFileFacts;
  /** The target that was written, where it has told its `identity`. */
  readonly target?: string;
  /** Ranged plan and raw: guest offset below which all is durable; one-pass qcow2: offset in the decompressed file. */
  readonly completed: number;
  readonly bytesWritten: number;
  /** Where the compressor around the image can be entered to go on from `completed`, or from shortly before. */
  readonly restart?: RestartPoint;
}

/** The resume record of one DataVolume; one file, replaced as a whole. */
export interface ResumeRecord {
  readonly version: 1;
  /** Fencing number of the attempt that wrote it. */
  readonly fence: number;
  /** Attempts in a row that made no durable byte, the running one included. */
  readonly barren: number;
  /** How far attempts have come whose bytes are not gone on with: to come no further is no progress. */
  readonly reached?: number;
  /** Times the source changed under a transfer. */
  readonly changes: number;
  /**
   * A change left the length as it was: answers to ranges may never agree, so that the source is read in one answer where it can
   * be, from zero each time.
   */
  readonly contradicted?: boolean;
  /** Bytes fetched, all attempts together. */
  readonly bytesRead: number;
  readonly durable?: Durable;
  /** The finished transfer; set once, after the last sync. */
  readonly result?: TransferResult;
  /** Of a blank disk: whether its result has all of its blocks. */
  readonly preallocated?: boolean;
  /** What the files of a volume were when they were cloned into it: the result is that of this state, and of no other. */
  readonly state?: string;
  /** Of `dvflow convert`: which source it is (a digest). A DataVolume or an upload has one only. */
  readonly source?: string;
  /** The directory that an archive is unpacked into: what is in it is ours, what is in another one is not. */
  readonly directory?: string;
}

/** What a DataVolume without a record starts with. */
export const EMPTY_RECORD: ResumeRecord = { version: 1, fence: 0, barren: 0, changes: 0, bytesRead: 0 };

/** Keeps the record in a directory, and guards it by fencing number. */
export interface RecordStore {
  load(): Promise<ResumeRecord>;
  /** Durable when it resolves. @throws {@link FencedError} where a later attempt holds the fence; `NoSpace` */
  save(record: ResumeRecord): Promise<void>;
}

/**
 * A store in `directory` (a path, or `/proc/self/fd/<n>`), whose records belong to `owner` or else to whoever writes them.
 * A record that cannot be read counts as none: work starts over.
 */
export function createRecordStore(directory: string, owner?: Owner): RecordStore {
  const path = recordIn(directory);

  async function load(): Promise<ResumeRecord> {
    const text = await readOwn(path).catch(() => '');
    return parseRecord(text) ?? EMPTY_RECORD;
  }

  async function save(record: ResumeRecord): Promise<void> {
    const current = await load();
    if (current.fence > record.fence) throw new FencedError(record.fence, current.fence);
    if (current.fence < record.fence) await removeUnfinished(directory, (writer) => writer < record.fence);
    const temporary = `${directory}/record.${record.fence}.tmp`;
    await orNoSpace(replace(temporary, JSON.stringify(record)));
  }

  async function replace(temporary: string, text: string): Promise<void> {
    await writeDurably(temporary, text, owner);
    await rename(temporary, path);
    await syncPath(directory);
  }
  return { load, save };
}

/** Removes the record of a directory, and what attempts that were killed over one have left; nothing else that it may hold. */
export async function removeRecord(directory: string): Promise<void> {
  await rm(recordIn(directory), { force: true });
  await removeUnfinished(directory, () => true);
}

const recordIn = (directory: string): string => `${directory}/record.json`;

/** A later attempt has taken over; this one stops and touches nothing more. */
export class FencedError extends Error {
  override readonly name = 'FencedError';
  constructor(own: number, current: number) {
    super(`attempt with fencing number ${own} was replaced by number ${current}`);
  }
}

/** The durable part, if it describes the same bytes read by the same plan into a target of the same size; else why not. */
export function prove(
  record: ResumeRecord,
  image: ImageFacts,
  diskBytes: number,
): { durable: Durable } | { mismatch: string } | undefined {
  const { durable } = record;
  if (!durable) return undefined;
  const { validators, format, containers } = image;
  const identity = { validators: withoutIdleDate(validators, durable.validators), format, containers };
  const known = {
    validators: withoutIdleDate(durable.validators, validators),
    format: durable.format,
    containers: durable.containers,
  };
  if (!isStrong(validators)) return { mismatch: 'the source has no validator that would prove it unchanged' };
  if (!sameJson(identity, known)) return { mismatch: 'the source has changed' };
  if (durable.plan !== image.plan)
    return { mismatch: `the plan is now ${image.plan}, it was ${durable.plan}` };
  if (durable.diskBytes !== diskBytes)
    return { mismatch: `the disk has ${diskBytes} bytes now, it had ${durable.diskBytes}` };
  return { durable };
}

/** An ETag or a date tells versions apart; a length alone does not. */
function isStrong({ etag, lastModified }: SourceValidators): boolean {
  return etag !== undefined || lastModified !== undefined;
}

/** Validators without the date where they share a strong ETag with others: it proves nothing more. */
function withoutIdleDate(validators: SourceValidators, others: SourceValidators): SourceValidators {
  const { lastModified: _, ...rest } = validators;
  return haveSameStrongEtag(validators, others) ? rest : validators;
}

/** Removes records that attempts were killed over before they had their name. */
async function removeUnfinished(directory: string, isOver: (writer: number) => boolean): Promise<void> {
  for (const name of await readdir(directory)) {
    const [, writer] = /^record\.(\d+)\.tmp$/u.exec(name) ?? [];
    if (writer !== undefined && isOver(Number(writer))) await rm(`${directory}/${name}`, { force: true });
  }
}

/** Same content, whatever the order of the keys. */
function sameJson(left: unknown, right: unknown): boolean {
  return canonical(left) === canonical(right);
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    inner && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

function parseRecord(text: string): ResumeRecord | undefined {
  try {
    const value = JSON.parse(text) as ResumeRecord;
    const counted = [value.fence, value.barren, value.changes, value.bytesRead];
    return value.version === 1 && counted.every(Number.isSafeInteger) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Reads a file, but follows no link and waits for no FIFO: the directory belongs to the process that decodes. */
async function readOwn(path: string): Promise<string> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  await using file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  return await file.readFile('utf8');
}

async function writeDurably(path: string, text: string, owner: Owner | undefined): Promise<void> {
  await rm(path, { force: true });
  const file = await open(path, 'wx', 0o660);
  try {
    if (owner) await file.chown(owner.uid, owner.gid);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncPath(directory: string): Promise<void> {
  const handle = await open(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The record of a disk of which nothing is left. */
export function withoutDurable({ durable: _, reached: __, ...record }: ResumeRecord): ResumeRecord {
  return record;
}
