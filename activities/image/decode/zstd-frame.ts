/** First bytes of a zstd frame (RFC 8878 §3.1.1), little endian. */
const ZSTD_MAGIC = 0xfd2fb528;

/**
 * Bytes of the zstd frame at the start of `input`, or `undefined` where there is none, or only a part of one (RFC 8878 §3.1.1).
 * What follows a frame, padding or the next cluster, would be an error to a decoder.
 */
export function zstdFrameBytes(input: Uint8Array): number | undefined {
  const view = Buffer.from(input.buffer, input.byteOffset, input.byteLength);
  if (view.length < 6 || view.readUInt32LE(0) !== ZSTD_MAGIC) return undefined;
  const descriptor = view[4] ?? 0;
  let at = headerBytes(descriptor);
  for (let last = false; !last;) {
    if (at + 3 > view.length) return undefined;
    const block = view.readUIntLE(at, 3);
    // type 1 is one repeated byte
    at += 3 + (((block >> 1) & 3) === 1 ? 1 : block >> 3);
    last = (block & 1) === 1;
  }
  at += (descriptor >> 2) & 1 ? 4 : 0;
  return at > view.length ? undefined : at;
}

/** Magic, descriptor, window, dictionary and content size. */
function headerBytes(descriptor: number): number {
  const single = (descriptor >> 5) & 1;
  const contentSize = descriptor >> 6;
  const contentBytes = contentSize === 0 ? single : 2 ** contentSize;
  return 5 + (single ? 0 : 1) + ([0, 1, 2, 4][descriptor & 3] ?? 0) + contentBytes;
}
