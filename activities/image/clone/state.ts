/** What tells one state of a file, a directory or a block device from another. */
import { randomUUID } from 'node:crypto';
import { readFileSync, type BigIntStats } from 'node:fs';
import { deviceNumber } from '../block-device.js';

/** Where the kernel counts the sectors written to a device, and those discarded (`iostats.rst`). */
const WRITTEN = 6;
const DISCARDED = 13;
/** A device whose writes nobody counts is another one for each process: nothing of it is believed later. */
const uncounted = (): string => (ofThisProcess ??= `uncounted-${randomUUID()}`);
/** Not before it is asked for: `node:crypto` takes 20 ms to load. */
let ofThisProcess: string | undefined;

/** State of a file or directory. Its owner can set a time of writing back, the time of a change not. */
export function fileState({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join('-');
}

/**
 * Tells the state of an open block device, each time that it is asked: what was written to it since the machine started. Whoever writes
 * comes by a device node of his own, whose times this one does not know.
 */
export function createStateReader(fd: number): () => string {
  const number = deviceNumber(fd);
  const at = `/sys/dev/block/${number}`;
  // a partition has what belongs to its disk one directory above
  const attribute = (name: string): string => read(`${at}/${name}`) ?? read(`${at}/../${name}`) ?? '';
  const boot = read('/proc/sys/kernel/random/boot_id') ?? uncounted();
  const identity = [number, boot, attribute('diskseq')];
  return () => {
    const counts = attribute('queue/iostats') === '0' ? undefined : read(`${at}/stat`)?.split(/\s+/);
    const written = counts ? [counts[WRITTEN], counts[DISCARDED] ?? ''] : [uncounted()];
    return [...identity, attribute('size'), ...written].join('-');
  };
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}
