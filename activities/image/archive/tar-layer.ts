import { createBreather } from '../breathe.js';
import { headInside } from '../layers/head.js';
import { invalid } from '../refusals.js';
import { createStreamedSource, HEAD_BYTES } from '../source/streamed-source.js';
import { RangesLostError, type ImageSource, type SourceFacts } from '../source/types.js';
import { shownName } from '../../shown-name.js';
import { createImageChoice } from './tar-image.js';
import { createHeadReader, createRangedInput, createStreamInput } from './archive-input.js';
import { cutShort } from './tar-header.js';
import { readEntries, readTar, type TarEntry, type TarReaderOptions } from './tar-reader.js';
import { expanded, extentAt, packedOffset, placed, type SparseMap } from './tar-sparse.js';

/** Where the image lies in the archive. */
type Place = Pick<TarEntry, 'name' | 'dataOffset' | 'map'>;

/**
 * The disk image inside a tar archive, as a source of its own. Behind ranges the headers are read by small ranges, and the image
 * has ranges too, sparse or not; else the archive is streamed, and a second file in it is met, and refused, only at its end.
 * @throws {@link FailureType} `ImageInvalid`, `ImageHostile`, `UnsupportedFormat` and what the source around it rejects with
 */
export async function openTarLayer(inner: ImageSource, options: TarReaderOptions = {}): Promise<ImageSource> {
  const facts = await inner.probe();
  const size = facts.validators.length;
  if (!facts.ranges || size === undefined) return createStreamedImage(inner, facts, options);
  try {
    return createRangedImage(inner, facts, await findImage(inner, { size, head: facts.head }));
  } catch (error) {
    if (error instanceof RangesLostError) return createStreamedImage(inner, facts, options);
    throw error;
  }
}

/** Walks through all headers of the archive. */
async function findImage(inner: ImageSource, known: { size: number; head: Buffer }): Promise<Place> {
  const choice = createImageChoice();
  let place: Place | undefined;
  for await (const entry of readEntries(createRangedInput(inner, known))) {
    if (choice.offer(entry)) place = entry;
  }
  choice.finish();
  if (!place) throw new Error('an archive without an image was accepted');
  return place;
}

function createRangedImage(inner: ImageSource, facts: SourceFacts, place: Place): ImageSource {
  const { map, dataOffset } = place;

  const readArchive = createHeadReader(inner, facts.head);
  const breathe = createBreather();

  /** The packed bytes are read to the target's beginning and then moved to their places, from the last to the first. */
  async function readInto(start: number, target: Uint8Array): Promise<void> {
    const end = start + target.length;
    if (end > map.size)
      throw new Error(`range ${start} to ${end} is beyond the ${map.size} bytes of the image`);
    const first = packedOffset(map, start);
    const packed = target.subarray(0, packedOffset(map, end) - first);
    // a terabyte of holes is read without a request that would let anything else have its turn
    if (packed.length > 0) await readArchive(dataOffset + first, packed);
    else await breathe();
    if (packed.length < target.length) spread(target, packed.length, { map, start });
  }

  return {
    async probe() {
      const head = Buffer.alloc(Math.min(HEAD_BYTES, map.size));
      await readInto(0, head);
      return { ...factsOf(facts, map), ranges: true, seekable: true, head };
    },
    stream: (start) => streamImage(inner, place, start),
    readInto,
    get bytesRead() {
      return inner.bytesRead;
    },
    close: () => undefined,
  };
}

/** The image from `start`, by the stream of the archive, which is read to its end. */
async function* streamImage(
  inner: ImageSource,
  { name, dataOffset, map }: Place,
  start: number,
): AsyncGenerator<Buffer> {
  const first = packedOffset(map, start);
  const input = createStreamInput(inner.stream(dataOffset + first), dataOffset + first);

  async function* packed(): AsyncGenerator<Buffer> {
    for (let left = map.packedSize - first; left > 0;) {
      const piece = await input.next(left);
      if (!piece) throw cutShort(input, shownName(name));
      left -= piece.length;
      yield piece;
    }
  }

  try {
    yield* expanded(placed(packed(), map, start), { start, size: map.size });
    while (await input.next(Infinity)) continue;
  } finally {
    await input.close();
  }
}

/** Moves `length` packed bytes at the beginning of `target` to where the map has them, and makes the rest zeros. */
function spread(target: Uint8Array, length: number, { map, start }: { map: SparseMap; start: number }): void {
  const end = start + target.length;
  let unpacked = length;
  let free = target.length;
  for (let index = extentAt(map, end - 1); free > 0 && index >= 0; index -= 1) {
    const offset = map.offsets[index] ?? Infinity;
    const from = Math.max(offset, start);
    const to = Math.min(offset + (map.lengths[index] ?? 0), end);
    if (from >= to) {
      if (to <= start) break;
      continue;
    }
    unpacked -= to - from;
    target.copyWithin(from - start, unpacked, unpacked + to - from);
    target.fill(0, to - start, free);
    free = from - start;
  }
  target.fill(0, 0, free);
}

function createStreamedImage(inner: ImageSource, facts: SourceFacts, options: TarReaderOptions): ImageSource {
  let found: Place | undefined;

  async function* imageIn(bytes: AsyncIterable<Buffer>, told = options): AsyncGenerator<Buffer> {
    const choice = createImageChoice();
    for await (const entry of readTar(bytes, told)) {
      if (!choice.offer(entry)) continue;
      refuseCutShort(entry, facts.validators.length);
      found = entry;
      yield* entry.content();
    }
    choice.finish();
  }

  return createStreamedSource({
    open: () => imageIn(inner.stream(0)),
    head: () => headInside(facts, (bytes) => imageIn(bytes, {})),
    facts: async () => {
      if (!found) throw new Error('facts of an image that was not met');
      return factsOf(facts, found.map);
    },
    bytesRead: () => inner.bytesRead,
  });
}

/** An archive whose length is known is seen to be too short before its content is read. */
function refuseCutShort({ name, dataOffset, map }: Place, length = Infinity): void {
  const end = dataOffset + map.packedSize;
  if (end > length)
    throw invalid(`tar archive is cut short: ${shownName(name)} ends at ${end}, the archive at ${length}`);
}

function factsOf(
  { displayUrl, validators }: SourceFacts,
  { size }: SparseMap,
): Pick<SourceFacts, 'displayUrl' | 'validators'> {
  return { displayUrl, validators: { ...validators, length: size } };
}
