import { createStreamInput } from '../archive/archive-input.js';
import { readEntries, type TarEntry } from '../archive/tar-reader.js';
import { gunzip } from '../layers/gzip.js';
import { unxz } from '../layers/xz-tool.js';
import { unzstd } from '../layers/zstd.js';

/** What may be around the tar of a layer, or of an archive. */
export type LayerCompression = 'gz' | 'zst' | 'xz';

const MAGICS: readonly (readonly [LayerCompression, Buffer])[] = [
  ['gz', Buffer.from([0x1f, 0x8b])],
  ['zst', Buffer.from([0x28, 0xb5, 0x2f, 0xfd])],
  // a skippable frame, with which pzstd begins
  ['zst', Buffer.from([0x50, 0x2a, 0x4d, 0x18])],
  ['xz', Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])],
];
const LONGEST_MAGIC = 6;
const DECODERS = { gz: gunzip, zst: unzstd, xz: unxz } as const;

/** The compression that bytes begin with; media types and file names say the same, and are known to lie. */
export function compressionOf(head: Buffer): LayerCompression | undefined {
  return MAGICS.find(([, magic]) => head.subarray(0, magic.length).equals(magic))?.[0];
}

/** A tar without what is around it. */
export interface Decoded {
  readonly compression?: LayerCompression;
  readonly tar: AsyncIterable<Buffer>;
}

/** Takes the compression off, which the first bytes tell. */
export async function decoded(bytes: AsyncIterable<Buffer>): Promise<Decoded> {
  const iterator = bytes[Symbol.asyncIterator]();
  const chunks: Buffer[] = [];
  for (let length = 0; length < LONGEST_MAGIC;) {
    const next = await iterator.next();
    if (next.done) break;
    chunks.push(next.value);
    length += next.value.length;
  }
  async function* whole(): AsyncGenerator<Buffer> {
    try {
      yield* chunks;
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) yield next.value;
    } finally {
      await iterator.return?.();
    }
  }
  const compression = compressionOf(Buffer.concat(chunks));
  return compression ? { compression, tar: DECODERS[compression](whole()) } : { tar: whole() };
}

/** The entries of a layer, and what they came out of. */
export interface LayerEntries {
  readonly compression?: LayerCompression;
  readonly entries: AsyncGenerator<TarEntry>;
}

/** Opens a layer. Nothing behind the end marker of the tar is decoded. */
export async function openLayer(bytes: AsyncIterable<Buffer>): Promise<LayerEntries> {
  const { compression, tar } = await decoded(bytes);
  return { ...(compression ? { compression } : {}), entries: entriesOf(tar) };
}

async function* entriesOf(tar: AsyncIterable<Buffer>): AsyncGenerator<TarEntry> {
  const input = createStreamInput(tar);
  try {
    yield* readEntries(input);
  } finally {
    await input.close();
  }
}
