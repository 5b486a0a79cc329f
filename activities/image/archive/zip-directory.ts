import { Readable } from 'node:stream';
import type { CentralDirectory, File } from 'unzipper';
import { hostile, invalid, unsupported } from '../refusals.js';
import { shownName } from '../../shown-name.js';
import { isBesideImage } from './beside-image.js';
import { findDirectory, LOCAL_BYTES, type ZipBytes, type ZipDirectory } from './zip-end.js';

/** Compression methods (APPNOTE 4.4.5). */
export const STORED = 0;
export const DEFLATE = 8;
const METHODS: Readonly<Record<number, string>> = {
  1: 'shrink',
  6: 'implode',
  9: 'deflate64',
  12: 'bzip2',
  14: 'lzma',
  93: 'zstd',
  95: 'xz',
  99: 'AES encryption',
};
/** General purpose flags (APPNOTE 4.4.4) that mean encryption, and patch data. */
const ENCRYPTED = 0x2041;
const PATCH = 0x20;
/** Sizes and CRC come after the data. */
export const DESCRIPTOR = 0x08;
/** Flags that change what the bytes of an entry mean; the others are hints. */
export const DECISIVE_FLAGS = ENCRYPTED | PATCH | DESCRIPTOR;
/** `version made by` of systems whose attributes hold a file's type, and the types that are taken. */
const UNIX = 3;
const TYPE_MASK = 0xf000;
const REGULAR = 0x8000;
/** Info-ZIP calls by this type what it read from a pipe: its content is there, and `unzip` makes a file of it. */
const PIPED = 0x1000;
/** Some writers set permissions and no type. */
const TAKEN_TYPES: readonly number[] = [0, PIPED, REGULAR];

/** The image in an archive, as its central directory describes it. */
export interface ZipEntry {
  readonly name: Buffer;
  /** The name for messages. */
  readonly shown: string;
  readonly flags: number;
  readonly method: number;
  readonly crc32: number;
  readonly compressedSize: number;
  readonly size: number;
  /** Offset of the local header. */
  readonly offset: number;
  /** Offset of the central directory: no data lies at or after it. */
  readonly directory: number;
}

/**
 * Reads the directory of a zip archive, which must describe exactly one file with content; directories, and what macOS packs beside
 * each file, do not count.
 * @throws {@link FailureType} `ImageInvalid`, `ImageHostile`, `UnsupportedFormat`
 */
export async function readZipDirectory(bytes: ZipBytes): Promise<ZipEntry> {
  const directory = await findDirectory(bytes);
  const files = (await parse(bytes, directory)).filter((file) => !isDirectory(file));
  for (const file of files) refuseKind(file);
  const images = files.filter(({ path: name, uncompressedSize: size }) => !isBesideImage({ name, size }));
  const [file, second] = images;
  if (!file) throw noImage(files);
  const shown = shownName(file.path);
  if (second)
    throw unsupported(
      `zip archive holds ${images.length} files, one is expected: ${shown}, ${shownName(second.path)}${images.length > 2 ? ', …' : ''}`,
    );
  return checked(file, shown, directory);
}

function noImage(files: readonly File[]): Error {
  const [first] = files;
  if (!first) return invalid('zip archive holds no file');
  if (files.length === 1 && first.uncompressedSize === 0)
    return invalid(`zip archive holds no disk image: ${shownName(first.path)} is empty`);
  return invalid(`zip archive holds no disk image: none of its ${files.length} files can be one`);
}

/** `unzipper` gets the end of the archive, which is known to be whole, and nothing else to read. */
async function parse(bytes: ZipBytes, { start, end, tail }: ZipDirectory): Promise<readonly File[]> {
  const { Open } = (await import('unzipper')).default;
  const open = Open.custom as (
    source: Parameters<typeof Open.custom>[0],
    options: { tailSize: number },
  ) => Promise<CentralDirectory>;
  const source = {
    size: () => Promise.resolve(bytes.size),
    stream: (offset: number) => Readable.from([tail.subarray(offset - start)], { objectMode: false }),
  };
  try {
    return (await open(source, { tailSize: bytes.size - end })).files;
  } catch (error) {
    throw invalid('zip directory cannot be read', error);
  }
}

function isDirectory({ path, uncompressedSize }: File): boolean {
  return path.endsWith('/') && uncompressedSize === 0;
}

function checked(file: File, shown: string, { start }: ZipDirectory): ZipEntry {
  const { flags, compressionMethod: method, crc32, compressedSize, uncompressedSize: size } = file;
  const { offsetToLocalFileHeader: offset } = file;
  const name = Buffer.from(file.pathBuffer);
  assertReadable({ flags, method }, shown);
  // a size that is missing from its extra field comes as null
  for (const [what, value] of Object.entries({ size, 'compressed size': compressedSize, offset }))
    if (!Number.isSafeInteger(value)) throw invalid(`zip directory gives no ${what} for ${shown}`);
  if (method === STORED && size !== compressedSize)
    throw invalid(`zip entry ${shown} is stored in ${compressedSize} bytes but has ${size}`);
  if (offset + LOCAL_BYTES + compressedSize > start)
    throw invalid(
      `zip entry ${shown} has ${compressedSize} bytes at ${offset}, its directory begins at ${start}`,
    );
  return { name, shown, flags, method, crc32, compressedSize, size, offset, directory: start };
}

function refuseKind({ path, versionMadeBy, externalFileAttributes }: File): void {
  const shown = shownName(path);
  if (path.split(/[/\\]/).includes('..'))
    throw hostile(`zip entry ${shown} leads out of the archive by '..'`);
  const type = (externalFileAttributes >>> 16) & TYPE_MASK;
  if (versionMadeBy >>> 8 === UNIX && !TAKEN_TYPES.includes(type))
    throw hostile(`zip entry ${shown} is a link or device, not a file (type ${type.toString(8)})`);
}

/** Refuses what would have to be undone before or after inflating. @throws {@link FailureType} `UnsupportedFormat` */
export function assertReadable({ flags, method }: Pick<ZipEntry, 'flags' | 'method'>, shown: string): void {
  if ((flags & ENCRYPTED) !== 0) throw unsupported(`zip entry ${shown} is encrypted`);
  if ((flags & PATCH) !== 0) throw unsupported(`zip entry ${shown} is patch data`);
  if (method !== STORED && method !== DEFLATE)
    throw unsupported(
      `zip entry ${shown} is compressed by method ${method} (${METHODS[method] ?? 'unknown'}): only stored and deflate are read`,
    );
}
