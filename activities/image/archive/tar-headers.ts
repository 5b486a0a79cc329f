import { hostile, invalid } from '../refusals.js';
import { shownName } from '../../shown-name.js';
import { BLOCK, cutShort, parseTarHeader, untilNul, type TarHeader } from './tar-header.js';
import { take, type ArchiveInput } from './archive-input.js';
import {
  NO_RECORDS,
  parsePax,
  paxAttributes,
  paxName,
  type PaxAttributes,
  type PaxRecords,
} from './tar-pax.js';

const MAX_PAX_BYTES = 1024 * 1024;
/** Formats 0.0 and 0.1 of GNU tar keep the map of a sparse file in its header: 280 000 stretches. */
const MAX_OWN_PAX_BYTES = 16 * 1024 * 1024;
const MAX_NAME_BYTES = 64 * 1024;
/** Headers about one entry that come before its own; honest archives have up to four. */
const MAX_EXTRA_HEADERS = 100;

/** The header of one entry with everything that other headers say in its place. */
export interface TarHeaders {
  readonly header: TarHeader;
  readonly name: Buffer;
  readonly link: Buffer;
  readonly mtime: number;
  /** Bytes that follow in the archive, without padding. */
  readonly stored: number;
  readonly pax: PaxAttributes;
}

/** What was read before an entry's own header. */
interface Before {
  name?: Buffer;
  link?: Buffer;
  pax: PaxRecords;
}

/**
 * Reads up to and with the next entry's own header. `marker`: a block of zeros, `end`: the end of the bytes. What global
 * headers say is kept in `globals`.
 * @throws {@link FailureType} `ImageInvalid`, `ImageHostile`
 */
export async function readHeaders(
  input: ArchiveInput,
  globals: Map<string, Buffer>,
): Promise<TarHeaders | 'marker' | 'end'> {
  const before: Before = { pax: NO_RECORDS };
  for (let count = 0; count <= MAX_EXTRA_HEADERS; count += 1) {
    const at = input.position;
    const header = await readBlock(input);
    if (typeof header === 'string') {
      const missing = before.name ?? before.link ?? (before.pax === NO_RECORDS ? undefined : before.pax);
      if (missing) throw invalid(`tar archive is cut short: the headers before ${at} are about no entry`);
      return header;
    }
    if (!(await readExtra(input, header, before, globals))) return join(header, before, globals);
  }
  throw hostile(
    `tar archive has more than ${MAX_EXTRA_HEADERS} headers before one entry, at ${input.position}`,
  );
}

async function readBlock(input: ArchiveInput): Promise<TarHeader | 'marker' | 'end'> {
  const at = input.position;
  const block = await take(input, BLOCK);
  if (block.length === 0) return 'end';
  if (block.length < BLOCK) throw cutShort(input, `the header at ${at}`);
  return parseTarHeader(block, at) ?? 'marker';
}

/** Takes in a header that is about others; false for an entry's own. */
async function readExtra(
  input: ArchiveInput,
  header: TarHeader,
  before: Before,
  globals: Map<string, Buffer>,
): Promise<boolean> {
  switch (header.typeflag) {
    case 'L':
      before.name = untilNul(await readBody(input, header, MAX_NAME_BYTES));
      return true;
    case 'K':
      before.link = untilNul(await readBody(input, header, MAX_NAME_BYTES));
      return true;
    case 'x':
    case 'X':
      before.pax = parsePax(await readBody(input, header, MAX_OWN_PAX_BYTES), header.at);
      return true;
    case 'g': {
      const { values } = parsePax(await readBody(input, header, MAX_PAX_BYTES), header.at);
      for (const [keyword, value] of values) globals.set(keyword, Buffer.from(value));
      return true;
    }
    // the label of a volume
    case 'V':
      await readBody(input, header, MAX_NAME_BYTES);
      return true;
    default:
      return false;
  }
}

/** What follows a header about others: a copy, without its padding. */
async function readBody(
  input: ArchiveInput,
  { at, size, typeflag }: TarHeader,
  limit: number,
): Promise<Buffer> {
  if (size > limit)
    throw hostile(`tar header '${typeflag}' at ${at} has ${size} bytes, ${limit} is the limit`);
  const padded = Math.ceil(size / BLOCK) * BLOCK;
  const body = await take(input, padded);
  if (body.length < padded) throw cutShort(input, `the header at ${at}`);
  return Buffer.from(body.subarray(0, size));
}

function join(header: TarHeader, before: Before, globals: ReadonlyMap<string, Buffer>): TarHeaders {
  const pax = paxAttributes(before.pax, globals);
  const named = (keyword: string): Buffer | undefined => {
    const value = pax.text(keyword);
    // the header may be as long as a sparse map, a name may not: whoever splits it would make millions of parts
    if (value && value.length > MAX_NAME_BYTES)
      throw hostile(
        `PAX keyword ${keyword} of the entry at ${header.at} has ${value.length} bytes, ${MAX_NAME_BYTES} is the limit`,
      );
    return value && paxName(value, keyword);
  };
  const name = named('GNU.sparse.name') ?? named('path') ?? before.name ?? header.name;
  if (name.length === 0) throw invalid(`tar entry at ${header.at} has no name`);
  const isLink = header.typeflag === '1' || header.typeflag === '2';
  const link = isLink ? (named('linkpath') ?? before.link ?? header.link) : Buffer.alloc(0);
  if (isLink && link.length === 0) throw invalid(`link ${shownName(name.toString())} leads nowhere`);
  return {
    header,
    name,
    link,
    mtime: pax.seconds('mtime') ?? header.mtime,
    // no data follows links, devices, directories and FIFOs, whatever their size says (POSIX.1-2017 `ustar`, GNU tar)
    stored: /[1-6]/u.test(header.typeflag) ? 0 : (pax.count('size') ?? header.size),
    pax,
  };
}
