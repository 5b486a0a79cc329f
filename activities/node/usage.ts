/**
 * What volumes occupy, whatever lies in them: the disk, an archive's files, what the pods of a plain claim wrote. A look at every file
 * takes long, so that it is done beside the work, at most as often as it costs little, and remembered.
 */
import { lstat, opendir, type FileHandle } from 'node:fs/promises';
import { childPath, openDirectory } from './directories.js';

/** Entries of one volume that are looked at: what lies beyond is not counted, and its promise is kept for it. */
const MOST_ENTRIES = 100_000;

/** Directories below each other; each one holds a descriptor. */
const MOST_DEPTH = 40;

/** A pool's volumes are looked at again after so many times as long as the last look took, in any case after so long, in ms. */
const REST = { factor: 20, least: 1_000 } as const;

/** Longest time that somebody who asks for room waits for a look, in ms; a probe of a node may take 10 s. */
const PATIENCE_MS = 2_000;

/** What a look found. */
export interface Usage {
  /** Bytes by the volume's directory; blocks that several files share are counted once. */
  readonly bytes: ReadonlyMap<string, number>;
  /** Bytes by the volume's directory that its files share with others, which count them. */
  readonly shared: ReadonlyMap<string, number>;
  /** What the pool's volumes could use altogether then. Files that have gone since are room and must not count as used as well. */
  readonly capacityBytes: number;
}

interface Look {
  usage?: Usage;
  /** When the next one may begin, by `performance.now()`: a clock that is set back would put it off for as long. */
  next: number;
  running?: Promise<void> | undefined;
}

const looks = new Map<string, Look>();

/** The last look at the volumes of a pool; `undefined` before the first one has ended. */
export function lastUsage(pool: string): Usage | undefined {
  return looks.get(pool)?.usage;
}

/** Begins a look where it is time for one, and waits for it, but not long. Its failure is nobody's who only asks for room. */
export async function refreshUsage(pool: string, measure: () => Promise<Usage>): Promise<void> {
  const look = looks.get(pool) ?? { next: 0 };
  looks.set(pool, look);
  if (look.running === undefined && performance.now() >= look.next) look.running = run(look, measure);
  if (look.running === undefined) return;
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<void>((resolve) => (timer = setTimeout(resolve, PATIENCE_MS)));
  await Promise.race([look.running, patience]);
  clearTimeout(timer);
}

async function run(look: Look, measure: () => Promise<Usage>): Promise<void> {
  const begun = performance.now();
  try {
    look.usage = await measure();
  } catch {
    delete look.usage;
  } finally {
    look.next = performance.now() + Math.max(REST.least, REST.factor * (performance.now() - begun));
    look.running = undefined;
  }
}

/**
 * Bytes that the files below an open directory occupy, holes not counted, up to about `limit`. A file with other links, or on another
 * file system, is not this volume's alone and does not count; what vanishes meanwhile does not either.
 */
export async function treeBytes(
  directory: FileHandle,
  {
    device,
    limit,
    onFile,
  }: {
    readonly device: number;
    readonly limit: number;
    /** Told of each file that counts. */
    readonly onFile?: (path: string, bytes: number) => Promise<void>;
  },
): Promise<number> {
  let bytes = 0;
  let entries = 0;
  const isEnough = (): boolean => bytes >= limit || entries >= MOST_ENTRIES;

  async function visit(parent: FileHandle, depth: number): Promise<void> {
    for await (const { name } of await opendir(`/proc/self/fd/${parent.fd}`)) {
      if (isEnough()) return;
      entries += 1;
      const found = await lstat(childPath(parent, name)).catch(() => undefined);
      if (!found || found.dev !== device) continue;
      if (found.isFile() && found.nlink === 1) {
        // `st_blocks` counts 512 bytes whatever the file system's block size (stat(2)).
        bytes += found.blocks * 512;
        await onFile?.(childPath(parent, name), found.blocks * 512);
      }
      if (found.isDirectory() && depth < MOST_DEPTH) await descend(parent, name, depth);
    }
  }

  async function descend(parent: FileHandle, name: string, depth: number): Promise<void> {
    const opened = await openDirectory(parent, name).catch(() => undefined);
    if (!opened) return;
    await using child = opened;
    await visit(child, depth + 1).catch(() => undefined);
  }

  await visit(directory, 0);
  return bytes;
}
