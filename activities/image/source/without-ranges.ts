import type { ImageSource } from './types.js';

/** Said when a server that has answered ranges is read as one that has none. */
export const RANGES_LOST = 'the server no longer answers ranges: reading from the start in one pass';

/** Said when answers of a server do not agree about the version of a source whose length stays. */
export const IN_ONE_ANSWER =
  'starting from zero: answers contradict each other about the version of the source, which is now read in one answer';

/** Said when such a source can only be read by ranges, for want of scratch space: it may have changed in truth. */
export const BY_RANGES_AGAIN = 'the source has changed: reading it by ranges again';

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
