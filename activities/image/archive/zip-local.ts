import { invalid } from '../refusals.js';
import { take, type ArchiveInput } from './archive-input.js';
import { shownName } from '../../shown-name.js';
import type { DataFound } from './zip-data.js';
import { DECISIVE_FLAGS, DESCRIPTOR, type ZipEntry } from './zip-directory.js';
import { LOCAL_BYTES, number64, SIGNATURE } from './zip-end.js';

/** A field that says: see the 64-bit one in the extra fields. */
const FULL = 0xffffffff;
/** Header of the extra field with 64-bit sizes (APPNOTE 4.5.3). */
const EXTRA64 = 1;

/** What stands before an entry's data. */
export interface LocalHeader extends Omit<ZipEntry, 'directory'> {
  /** Offset of the data. */
  readonly data: number;
}

/** Reads a local header, signature included. @throws {@link FailureType} `ImageInvalid` */
export async function readLocalHeader(input: ArchiveInput): Promise<LocalHeader> {
  const offset = input.position;
  const fixed = await take(input, LOCAL_BYTES);
  if (fixed.length < LOCAL_BYTES || fixed.readUInt32LE(0) !== SIGNATURE.local)
    throw invalid(`zip archive has no entry at ${offset}`);
  const nameBytes = fixed.readUInt16LE(26);
  const names = await take(input, nameBytes + fixed.readUInt16LE(28));
  if (names.length < nameBytes + fixed.readUInt16LE(28))
    throw invalid(
      `zip archive is cut short: it ends after ${input.position} bytes, inside an entry's header`,
    );
  const name = Buffer.from(names.subarray(0, nameBytes));
  const compressedSize = fixed.readUInt32LE(18);
  const size = fixed.readUInt32LE(22);
  return {
    name,
    shown: shownName(name.toString()),
    flags: fixed.readUInt16LE(6),
    method: fixed.readUInt16LE(8),
    crc32: fixed.readUInt32LE(14),
    ...sizes64(names.subarray(nameBytes), { compressedSize, size }),
    offset,
    data: input.position,
  };
}

/** The 64-bit sizes, in this order, each only where its field is full. */
function sizes64(
  extra: Buffer,
  { compressedSize, size }: { compressedSize: number; size: number },
): Pick<LocalHeader, 'compressedSize' | 'size'> {
  if (size !== FULL && compressedSize !== FULL) return { compressedSize, size };
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== EXTRA64) continue;
    const wanted = (size === FULL ? 8 : 0) + (compressedSize === FULL ? 8 : 0);
    if (extra.readUInt16LE(at + 2) < wanted || at + 4 + wanted > extra.length) break;
    return {
      size: size === FULL ? number64(extra, at + 4) : size,
      compressedSize: compressedSize === FULL ? number64(extra, at + 4 + wanted - 8) : compressedSize,
    };
  }
  throw invalid('zip entry refers to 64-bit sizes that it does not have');
}

/** What a header says of its data; where a descriptor follows, a 0 says nothing (Info-ZIP on a pipe knows one size of the two). */
export function saidBefore(header: LocalHeader): Partial<DataFound> {
  const later = (header.flags & DESCRIPTOR) !== 0;
  const said = (['crc32', 'compressedSize', 'size'] as const).filter(
    (field) => !later || header[field] !== 0,
  );
  return Object.fromEntries(said.map((field) => [field, header[field]]));
}

/**
 * The header before the data and the directory are two descriptions of one entry, and must be the same.
 * @throws {@link FailureType} `ImageInvalid` naming what differs
 */
export function assertAgree(local: LocalHeader, entry: ZipEntry): void {
  if (!local.name.equals(entry.name))
    throw invalid(`zip directory has ${entry.shown} where the entry itself is named ${local.shown}`);
  const differs = (field: keyof typeof local & keyof ZipEntry): never => {
    throw invalid(
      `zip entry ${entry.shown} has ${field} ${String(local[field])} in its header, ${String(entry[field])} in the directory`,
    );
  };
  if (((local.flags ^ entry.flags) & DECISIVE_FLAGS) !== 0) differs('flags');
  if (local.method !== entry.method) differs('method');
  if (local.offset !== entry.offset) differs('offset');
  for (const [field, value] of Object.entries(saidBefore(local)) as [keyof DataFound, number][])
    if (value !== entry[field]) differs(field);
}
