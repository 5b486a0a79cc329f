import { hostile, unsupported } from '../refusals.js';

/** Archives of whole systems have some hundred thousand. */
export const MAX_ENTRIES = 1_000_000;
/** Directories gone into, for each entry that an archive may have; sorted archives need about one. */
const VISITS_PER_ENTRY = 16;
/** Bytes that are no data of a file, for each entry that an archive may have; honest headers take 2 KiB. */
const OVERHEAD_PER_ENTRY = 16 * 1024;

/** What an archive may cost besides the room for its data: a small one, compressed, can ask for days of work. */
export interface Limits {
  /** Counts an entry. @throws {@link FailureType} `UnsupportedFormat` */
  addEntry(): void;
  /** Counts a directory that is gone into. @throws {@link FailureType} `UnsupportedFormat` */
  addVisit(): void;
  /** Passes the archive's bytes on; those that are no data are bounded. @throws {@link FailureType} `ImageHostile` */
  bounded(bytes: AsyncIterable<Buffer>, data: () => number): AsyncGenerator<Buffer>;
}

/** Limits in proportion to the entries that an archive may have. */
export function createLimits(maxEntries: number): Limits {
  const maxVisits = VISITS_PER_ENTRY * maxEntries;
  const maxOverhead = OVERHEAD_PER_ENTRY * maxEntries;
  let entries = 0;
  let visits = 0;

  return {
    addEntry() {
      entries += 1;
      if (entries > maxEntries) throw unsupported(`tar archive has more than ${maxEntries} entries`);
    },
    addVisit() {
      visits += 1;
      if (visits > maxVisits)
        throw unsupported(
          `tar archive changes directories more than ${maxVisits} times: its entries are in no order`,
        );
    },
    async *bounded(bytes, data) {
      let read = 0;
      for await (const piece of bytes) {
        if (read - data() > maxOverhead)
          throw hostile(`tar archive has more than ${maxOverhead} bytes that are no data of a file`);
        read += piece.length;
        yield piece;
      }
    },
  };
}
