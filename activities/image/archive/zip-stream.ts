import { invalid, unsupported } from '../refusals.js';
import { createStreamInput, take, type StreamInput } from './archive-input.js';
import { isAppleDouble } from './beside-image.js';
import { assertFound, readData, type DataFound } from './zip-data.js';
import { assertReadable, DESCRIPTOR, readZipDirectory, STORED } from './zip-directory.js';
import { MAX_ENTRIES, MAX_TAIL_BYTES, SIGNATURE } from './zip-end.js';
import { assertAgree, readLocalHeader, saidBefore, type LocalHeader } from './zip-local.js';

const SLASH = 0x2f;
/** What is read past beside the image is small, and says so; a bomb would only be found out by inflating it. */
const MAX_BESIDE_BYTES = 64 * 1024 * 1024;

/** A file that has turned out to have content. */
interface FoundFile {
  readonly header: LocalHeader;
  readonly found: DataFound;
}

/**
 * The one file with content of a zip archive that can only be read in order; `met` is told of it before its content. At the end the
 * central directory must describe the very same file, and no other. What macOS packs beside each file is read past.
 * @throws {@link FailureType} `ImageInvalid`, `ImageHostile`, `UnsupportedFormat`
 */
export async function* streamZip(
  bytes: AsyncIterable<Buffer>,
  met: (header: LocalHeader) => void,
): AsyncGenerator<Buffer> {
  const input = createStreamInput(bytes);
  let file: FoundFile | undefined;
  try {
    for (let count = 0; (await nextSignature(input)) === SIGNATURE.local; count += 1) {
      if (count === MAX_ENTRIES)
        throw unsupported(`zip archive has more than ${MAX_ENTRIES} entries: one disk image is expected`);
      const header = await readLocalHeader(input);
      assertStreamable(header);
      if (isAppleDouble(header.name.toString('latin1'))) {
        await readPast(input, header);
        continue;
      }
      const found = yield* readFile(input, header, () => {
        if (file) throw severalFiles(file.header, header);
        met(header);
      });
      if (found.size > 0) file = { header, found };
    }
    await readEnd(input, file);
  } finally {
    await input.close();
  }
}

async function nextSignature(input: StreamInput): Promise<number | undefined> {
  const bytes = await take(input, 4);
  input.unread(bytes);
  return bytes.length === 4 ? bytes.readUInt32LE(0) : undefined;
}

function severalFiles(first: LocalHeader, second: LocalHeader): Error {
  return unsupported(`zip archive holds more than one file: ${first.shown} and ${second.shown}`);
}

function assertStreamable(header: LocalHeader): void {
  const { shown, method } = header;
  assertReadable(header, shown);
  if (method !== STORED) return;
  const { size, compressedSize = size } = saidBefore(header);
  if (size === undefined)
    throw unsupported(
      `zip entry ${shown} is stored with its size after it: without ranges its end cannot be told`,
    );
  if (size !== compressedSize)
    throw invalid(`zip entry ${shown} is stored in ${compressedSize} bytes but has ${size}`);
}

/** The content of an entry; `begins` is called before the first byte, and never for an empty one. */
async function* readFile(
  input: StreamInput,
  header: LocalHeader,
  begins: () => void,
): AsyncGenerator<Buffer, DataFound> {
  const pieces = readEntry(input, header);
  let next = await pieces.next();
  try {
    if (next.done) return next.value;
    if (header.name.at(-1) === SLASH) throw invalid(`zip directory entry ${header.shown} has content`);
    begins();
    while (!next.done) {
      yield next.value;
      next = await pieces.next();
    }
    return next.value;
  } finally {
    if (!next.done) await pieces.return({ compressedSize: 0, size: 0, crc32: 0 });
  }
}

async function readPast(input: StreamInput, header: LocalHeader): Promise<void> {
  let bytes = 0;
  for await (const piece of readEntry(input, header)) {
    bytes += piece.length;
    if (bytes > MAX_BESIDE_BYTES)
      throw unsupported(`zip entry ${header.shown} beside the image has more than ${MAX_BESIDE_BYTES} bytes`);
  }
}

async function* readEntry(input: StreamInput, header: LocalHeader): AsyncGenerator<Buffer, DataFound> {
  const { shown, method } = header;
  const found = yield* readData(input, { shown, method, ...saidBefore(header) });
  if ((header.flags & DESCRIPTOR) !== 0) await readDescriptor(input, shown, found);
  return found;
}

/** CRC and sizes of 4 or 8 bytes, with or without a signature before them: whichever fits what was found. */
async function readDescriptor(input: StreamInput, shown: string, found: DataFound): Promise<void> {
  const bytes = await take(input, 24);
  for (const start of [4, 0])
    for (const width of [4, 8]) {
      if (!fits(bytes, found, { start, width })) continue;
      return input.unread(bytes.subarray(start + 4 + 2 * width));
    }
  throw invalid(
    `zip entry ${shown} has ${found.size} bytes in ${found.compressedSize}, what comes after it says otherwise`,
  );
}

function fits(
  bytes: Buffer,
  { crc32, compressedSize, size }: DataFound,
  { start, width }: { start: number; width: number },
): boolean {
  const at = start + 4;
  if (bytes.length < at + 2 * width) return false;
  if (start > 0 && bytes.readUInt32LE(0) !== SIGNATURE.descriptor) return false;
  const number = (offset: number): number =>
    width === 4 ? bytes.readUInt32LE(offset) : Number(bytes.readBigUInt64LE(offset));
  return bytes.readUInt32LE(start) === crc32 && number(at) === compressedSize && number(at + width) === size;
}

/** Reads the directory and judges the file by it. */
async function readEnd(input: StreamInput, file: FoundFile | undefined): Promise<void> {
  const base = input.position;
  const tail = await take(input, MAX_TAIL_BYTES + 1);
  if (tail.length > MAX_TAIL_BYTES)
    throw invalid(`zip archive has more than ${MAX_TAIL_BYTES} bytes after its entries, from ${base} on`);
  const entry = await readZipDirectory({
    size: base + tail.length,
    from: base,
    read: async (offset, length) => tail.subarray(offset - base, offset - base + length),
  });
  if (!file) throw invalid(`zip directory names ${entry.shown}, which the archive does not hold`);
  assertAgree(file.header, entry);
  assertFound(file.found, entry);
}
