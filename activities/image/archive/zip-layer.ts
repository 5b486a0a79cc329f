import { headInside } from '../layers/head.js';
import { createStreamedSource, HEAD_BYTES } from '../source/streamed-source.js';
import { RangesLostError, type ImageSource, type SourceFacts } from '../source/types.js';
import { createHeadReader, createRangedInput, createStreamInput, type StreamInput } from './archive-input.js';
import { readData, type DataPromise } from './zip-data.js';
import { readZipDirectory, STORED, type ZipEntry } from './zip-directory.js';
import { assertAgree, readLocalHeader, saidBefore } from './zip-local.js';
import { streamZip } from './zip-stream.js';

/** An entry of which directory and header have said the same. */
interface Place extends ZipEntry {
  /** Offset of its data in the archive. */
  readonly data: number;
}

/**
 * The disk image inside a zip archive with one file, as a source of its own. Behind ranges the directory is read first: a stored
 * file has ranges too, a deflated one is a stream from its first byte. Else the archive is streamed, and its directory judges at
 * the end what was read. A stream ends only after CRC-32 and sizes have proved to be right.
 * @throws {@link FailureType} `ImageInvalid`, `ImageHostile`, `UnsupportedFormat` and what the source around it rejects with
 */
export async function openZipLayer(inner: ImageSource): Promise<ImageSource> {
  const facts = await inner.probe();
  const size = facts.validators.length;
  if (!facts.ranges || size === undefined) return createStreamedImage(inner, facts);
  try {
    const place = await findImage(inner, { size, head: facts.head });
    return place.method === STORED ? createSlice(inner, facts, place) : createDeflated(inner, facts, place);
  } catch (error) {
    if (error instanceof RangesLostError) return createStreamedImage(inner, facts);
    throw error;
  }
}

async function findImage(inner: ImageSource, { size, head }: { size: number; head: Buffer }): Promise<Place> {
  const readKnown = createHeadReader(inner, head);
  const entry = await readZipDirectory({
    size,
    async read(offset, length) {
      const bytes = Buffer.allocUnsafeSlow(length);
      await readKnown(offset, bytes);
      return bytes;
    },
  });
  const input = createRangedInput(inner, { size, head });
  await input.skip(entry.offset);
  const local = await readLocalHeader(input);
  assertAgree(local, entry);
  return { ...entry, data: local.data };
}

/** A stored entry: its ranges serve for tables, and its stream proves them. */
function createSlice(inner: ImageSource, facts: SourceFacts, place: Place): ImageSource {
  const readKnown = createHeadReader(inner, facts.head);

  async function readInto(start: number, target: Uint8Array): Promise<void> {
    const end = start + target.length;
    if (end > place.size)
      throw new Error(`range ${start} to ${end} is beyond the ${place.size} bytes of the image`);
    await readKnown(place.data + start, target);
  }

  const streamed = createEntry(inner, facts, place, async () => {
    const head = Buffer.alloc(Math.min(HEAD_BYTES, place.size));
    await readInto(0, head);
    return head;
  });
  return {
    ...streamed,
    async probe() {
      return { ...(await streamed.probe()), ranges: true, provedInOrder: true };
    },
    readInto,
    get bytesRead() {
      return streamed.bytesRead;
    },
  };
}

/** A deflated entry: a stream, of which the first bytes are inflated from what is known of the archive. */
function createDeflated(inner: ImageSource, facts: SourceFacts, place: Place): ImageSource {
  const known = { ...facts, head: facts.head.subarray(place.data) };
  return createEntry(inner, facts, place, () =>
    headInside(known, (bytes) => readData(createStreamInput(bytes), place)),
  );
}

/** The content of an entry from its first byte; `head` reads the first ones where that takes no stream. */
function createEntry(
  inner: ImageSource,
  facts: SourceFacts,
  place: Place,
  head?: () => Promise<Buffer | undefined>,
): ImageSource {
  return createStreamedSource({
    open: () => streamData(inner, place.data, place),
    facts: async () => factsOf(facts, place.size),
    ...(head ? { head } : {}),
    bytesRead: () => inner.bytesRead,
  });
}

/** The content of an entry whose data is at `offset`; the archive is read to its end. */
async function* streamData(inner: ImageSource, offset: number, promise: DataPromise): AsyncGenerator<Buffer> {
  const input: StreamInput = createStreamInput(inner.stream(offset), offset);
  try {
    yield* readData(input, promise);
    while (await input.next(Infinity)) continue;
  } finally {
    await input.close();
  }
}

function createStreamedImage(inner: ImageSource, facts: SourceFacts): ImageSource {
  let size: number | undefined;
  return createStreamedSource({
    open: () => streamZip(inner.stream(0), (header) => (size = saidBefore(header).size)),
    facts: async () => factsOf(facts, size),
    bytesRead: () => inner.bytesRead,
  });
}

function factsOf(
  { displayUrl, validators }: SourceFacts,
  size: number | undefined,
): Pick<SourceFacts, 'displayUrl' | 'validators'> {
  const { length: _, ...version } = validators;
  return { displayUrl, validators: { ...version, ...(size === undefined ? {} : { length: size }) } };
}
