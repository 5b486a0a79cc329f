import type { ImageSource, SourceFacts } from '../source/types.js';
import { createStreamedSource } from '../source/streamed-source.js';
import { decodeBlocks, parallelBlocks } from './xz-blocks.js';
import { readXzIndex, type XzIndex } from './xz-index.js';
import { headInside } from './head.js';
import { unxz } from './xz-tool.js';

/**
 * What an xz file decompresses to. Behind ranges its index is read from its end: then its size is known beforehand, and a file of
 * several blocks is decoded block by block, some at once, and can be entered at any of them. Otherwise the `xz` tool reads it as
 * a stream, and so it does where blocks or streams are very many, or blocks too large.
 */
export async function openXz(inner: ImageSource): Promise<ImageSource> {
  const facts = await inner.probe();
  const { length } = facts.validators;
  const index = facts.ranges && length !== undefined ? await readXzIndex(inner, length) : undefined;
  const blocks = index?.blocks;
  const parallel = blocks ? parallelBlocks(blocks) : 0;
  const streamed = createStreamedSource({
    open: () => unxz(inner.stream(0)),
    facts: async () => insideFacts(facts, index),
    // one thread: several would hold a block back until all of it is there
    head: () => headInside(facts, (bytes) => unxz(bytes, { threads: 1 })),
    bytesRead: () => inner.bytesRead,
  });
  if (!blocks || parallel === 0) return streamed;
  return {
    ...streamed,
    async probe() {
      return { ...(await streamed.probe()), seekable: true };
    },
    stream: (start) => decodeBlocks(inner, blocks, { start, parallel }),
    get bytesRead() {
      return inner.bytesRead;
    },
  };
}

function insideFacts({ displayUrl, validators }: SourceFacts, index: XzIndex | undefined) {
  const { length: _, ...rest } = validators;
  const size = index?.uncompressedSize;
  return {
    displayUrl,
    validators: size === undefined ? rest : { ...rest, length: size },
  };
}
