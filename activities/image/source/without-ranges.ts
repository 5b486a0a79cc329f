import type { ImageSource } from './types.js';

/** Said when a server that has answered ranges is read as one that has none. */
export const RANGES_LOST = 'the server no longer answers ranges: reading from the start in one pass';

/** The same source as one that can only be read from its start. */
export function withoutRanges(source: ImageSource): ImageSource {
  return {
    async probe() {
      const { provedInOrder: _, ...facts } = await source.probe();
      return { ...facts, ranges: false, seekable: false };
    },
    stream: (start) => source.stream(start),
    readInto: () => Promise.reject(new Error('this source is read in order')),
    get bytesRead() {
      return source.bytesRead;
    },
    close: () => source.close(),
  };
}
