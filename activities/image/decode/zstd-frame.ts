/** First bytes of a zstd frame (RFC 8878 §3.1.1), little endian. */
const ZSTD_MAGIC = 0xfd2fb528;

/** What a zstd frame says of itself, without being decoded. */
export interface ZstdFrame {
  /** Its length, header and checksum included. */
  readonly bytes: number;
  /** What it decompresses to, in bytes; absent where its header does not say. */
  readonly contentBytes?: number;
}

/**
 * The zstd frame at the start of `input`, or `undefined` where there is none, or only a part of one (RFC 8878 §3.1.1).
 * What follows a frame, padding or the next cluster, would be an error to a decoder.
 */
export function zstdFrame(input: Uint8Array): ZstdFrame | undefined {
  const view = Buffer.from(input.buffer, input.byteOffset, input.byteLength);
  if (view.length < 6 || view.readUInt32LE(0) !== ZSTD_MAGIC) return undefined;
  const descriptor = view[4] ?? 0;
  const single = (descriptor >> 5) & 1;
  const sizeAt = 5 + (single ? 0 : 1) + ([0, 1, 2, 4][descriptor & 3] ?? 0);
  const sizeBytes = contentSizeBytes(descriptor);
  let at = sizeAt + sizeBytes;
  for (let last = false; !last;) {
    if (at + 3 > view.length) return undefined;
    const block = view.readUIntLE(at, 3);
    // type 1 is one repeated byte
    at += 3 + (((block >> 1) & 3) === 1 ? 1 : block >> 3);
    last = (block & 1) === 1;
  }
  at += (descriptor >> 2) & 1 ? 4 : 0;
  if (at > view.length) return undefined;
  return sizeBytes === 0 ? { bytes: at } : { bytes: at, contentBytes: contentSize(view, sizeAt, sizeBytes) };
}

/** Length of the field that holds the content's size. */
function contentSizeBytes(descriptor: number): number {
  const flag = descriptor >> 6;
  return flag === 0 ? (descriptor >> 5) & 1 : 2 ** flag;
}

/** A field of two bytes counts from 256; one of eight may hold more than a number can, which no cluster has. */
function contentSize(view: Buffer, at: number, bytes: number): number {
  if (bytes === 8) return Number(view.readBigUInt64LE(at));
  return view.readUIntLE(at, bytes) + (bytes === 2 ? 256 : 0);
}
