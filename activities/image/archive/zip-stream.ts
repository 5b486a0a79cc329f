import { invalid, unsupported } from '../refusals.js';
import { createStreamInput, take, type StreamInput } from './archive-input.js';
import { assertFound, readData, type DataFound } from './zip-data.js';
import { assertReadable, DESCRIPTOR, readZipDirectory, STORED } from './zip-directory.js';
import { MAX_ENTRIES, MAX_TAIL_BYTES, SIGNATURE } from './zip-end.js';
import { assertAgree, readLocalHeader, saidBefore, type LocalHeader } from './zip-local.js';

/**
 * The one file of a zip archive that can only be read in order; `met` is told of it before its content. At the end the central
 * directory must describe the very same file, and no other.
 * @throws {@link FailureType} `ImageInvalid`, `ImageHostile`, `UnsupportedFormat`
 */
export async function* streamZip(
  bytes: AsyncIterable<Buffer>,
  met: (header: LocalHeader) => void,
): AsyncGenerator<Buffer> {
  const input = createStreamInput(bytes);
  let file: { header: LocalHeader; found: DataFound } | undefined;
  try {
    for (let count = 0; (await nextSignature(input)) === SIGNATURE.local; count += 1) {
      if (count === MAX_ENTRIES)
        throw unsupported(`zip archive has more than ${MAX_ENTRIES} entries: one disk image is expected`);
      const header = await readLocalHeader(input);
      const isFile = header.name.at(-1) !== 0x2f;
      if (isFile && file) throw severalFiles(file.header, header);
      assertStreamable(header);
      if (isFile) met(header);
      const found = yield* readEntry(input, header);
      if (isFile) file = { header, found };
      else if (found.size > 0) throw invalid(`zip directory entry ${header.shown} has ${found.size} bytes`);
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
async function readEnd(
  input: StreamInput,
  file: { header: LocalHeader; found: DataFound } | undefined,
): Promise<void> {
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
