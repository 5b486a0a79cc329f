/**
 * Blocks that several files have, as a clone by reflink makes them: `st_blocks` counts them once a file, and a pool that believed it
 * would give out the room of each clone a second time.
 */
import { constants } from 'node:fs';
import { open, statfs, type FileHandle } from 'node:fs/promises';
import { sharedExtents } from '../image/clone/kernel.js';
import { O_PATH } from './place.js';

/** `statfs.f_type` of XFS, btrfs, bcachefs and OCFS2: no other file system shares blocks between files. */
const SHARING = [0x58465342, 0x9123683e, 0xca451a4e, 0x7461636f];
/** Bytes of a file that is looked at: of many small ones the look would take longer than it is worth. */
const WORTH_A_LOOK = 64 * 1024;
/** Extents that are kept in mind; what more there are counts as used by each file. */
const MOST_EXTENTS = 500_000;

interface Shared {
  readonly start: number;
  readonly end: number;
  /** Directory of the volume. */
  readonly by: string;
}

/** Finds out which blocks were counted more than once while files are counted. */
export interface SharedBlocks {
  /** Looks at a file that was counted for a volume; whatever bears its name by now, nothing but a regular file is opened. */
  look(path: string, file: { readonly by: string; readonly bytes: number }): Promise<void>;
  /** Bytes by volume that were counted for another file already. */
  countedTwice(): ReadonlyMap<string, number>;
}

/** Looks at files of the file system of this directory; at none where it cannot share. */
export async function createSharedBlocks({ fd }: FileHandle): Promise<SharedBlocks> {
  const { type } = await statfs(`/proc/self/fd/${fd}`);
  const sharing = SHARING.includes(type);
  const found: Shared[] = [];
  return {
    async look(path, { by, bytes }) {
      if (!sharing || bytes < WORTH_A_LOOK || found.length >= MOST_EXTENTS) return;
      await using file = await openFile(path);
      if (!file) return;
      for (const { start, end } of await sharedExtents(file.fd)) found.push({ start, end, by });
    },
    countedTwice: () => countTwice(found),
  };
}

async function openFile(path: string): Promise<FileHandle | undefined> {
  try {
    await using named = await open(path, O_PATH | constants.O_NOFOLLOW);
    if (!(await named.stat()).isFile()) return undefined;
    return await open(`/proc/self/fd/${named.fd}`, constants.O_RDONLY);
  } catch {
    return undefined;
  }
}

/** Each block belongs to the first file that has it. */
function countTwice(found: readonly Shared[]): ReadonlyMap<string, number> {
  const twice = new Map<string, number>();
  let until = 0;
  for (const { start, end, by } of [...found].sort((one, other) => one.start - other.start)) {
    const again = Math.max(0, Math.min(end, until) - start);
    if (again > 0) twice.set(by, (twice.get(by) ?? 0) + again);
    until = Math.max(until, end);
  }
  return twice;
}
