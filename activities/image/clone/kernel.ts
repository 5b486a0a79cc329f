/** What the kernel does with files that Node has no word for: where they hold data, and copies that never leave it. */
import { lastErrno, openLibrary } from '../decode/native.js';
import type { Stretch } from '../source/types.js';

/** `_IOW(0x94, 9, int)` and `_IOW(0x94, 13, struct file_clone_range)` of linux/fs.h. */
const FICLONE = 0x40049409;
const FICLONERANGE = 0x4020940d;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const ENXIO = 6;

/** `_IOWR('f', 11, struct fiemap)`; the struct has 4 words of 64 bits before the extents, each extent has 7 (`fiemap.h`). */
const FIEMAP = 0xc020660b;
const HEAD_WORDS = 4;
const EXTENT_WORDS = 7;
const EXTENT_LAST = 0x1n;
const EXTENT_SHARED = 0x2000n;
/** Extents of one call, and of one file: what more there are is not told. */
const EXTENTS_AT_ONCE = 512;
const MOST_CALLS = 2_000;

/** Errors by which a copy is refused for good; any other is the file system's trouble of the moment. */
const NAMES: Readonly<Record<number, string>> = {
  1: 'EPERM',
  5: 'EIO',
  9: 'EBADF',
  18: 'EXDEV',
  22: 'EINVAL',
  25: 'ENOTTY',
  26: 'ETXTBSY',
  27: 'EFBIG',
  28: 'ENOSPC',
  30: 'EROFS',
  38: 'ENOSYS',
  95: 'EOPNOTSUPP',
  122: 'EDQUOT',
};

interface Calls {
  ioctlNumber(fd: number, request: number, value: number): number;
  ioctlMemory: IoctlMemory;
  lseek: Seek;
  copy: CopyFileRange;
}

type Seek = {
  (...args: SeekArguments): number;
  async(...args: [...SeekArguments, (error: Error | null, result: number) => void]): void;
};
type SeekArguments = [fd: number, offset: number, whence: number];

type IoctlMemory = {
  (fd: number, request: number, memory: BigInt64Array): number;
  async(
    fd: number,
    request: number,
    memory: BigInt64Array,
    done: (error: Error | null, result: number) => void,
  ): void;
};

type CopyFileRange = {
  (...args: CopyArguments): number;
  async(...args: [...CopyArguments, (error: Error | null, count: number) => void]): void;
};
type CopyArguments = [
  from: number,
  fromOffset: BigInt64Array,
  to: number,
  toOffset: BigInt64Array,
  length: number,
  flags: number,
];

let known: Calls | null | undefined;

function calls(): Calls | undefined {
  known ??= bind();
  return known ?? undefined;
}

function bind(): Calls | null {
  const library = openLibrary('libc');
  if (!library) return null;
  return {
    ioctlNumber: library.func('int ioctl(int, unsigned long, long)') as Calls['ioctlNumber'],
    ioctlMemory: library.func('int ioctl(int, unsigned long, void *)') as Calls['ioctlMemory'],
    lseek: library.func('long lseek(int, long, int)') as Calls['lseek'],
    copy: library.func(
      'long copy_file_range(int, void *, int, void *, size_t, unsigned int)',
    ) as Calls['copy'],
  };
}

/** Error of the system with its code, as Node's own have. */
function systemError(doing: string, errno: number): Error & { code: string } {
  const code = NAMES[errno] ?? `E${errno}`;
  return Object.assign(new Error(`${doing}: ${code}`), { code });
}

/** Makes `to` share all blocks of `from`. Resolves to why not, where the file system cannot: the name of its error. */
export function reflink(from: number, to: number): string | undefined {
  const found = calls();
  if (!found) return 'ENOSYS';
  return found.ioctlNumber(to, FICLONE, from) === 0 ? undefined : (NAMES[lastErrno()] ?? 'EIO');
}

/** As {@link reflink}, for the first `length` bytes. */
export function reflinkBeginning(from: number, to: number, length: number): string | undefined {
  const found = calls();
  if (!found) return 'ENOSYS';
  const range = BigInt64Array.of(BigInt(from), 0n, BigInt(length), 0n);
  return found.ioctlMemory(to, FICLONERANGE, range) === 0 ? undefined : (NAMES[lastErrno()] ?? 'EIO');
}

/** Stretches that are told apart at most; the last one of more has all the rest in it. */
export const MOST_STRETCHES = 65_537;
/** Stretches that are found on the event loop between two looks off it: of a file system that does not answer, one of these waits. */
const AT_ONCE = 32;

/** Where data or a hole begins, or why none does. */
interface Found {
  readonly at: number;
  readonly errno: number;
}

function seek(lseek: Seek, args: SeekArguments): Found {
  const at = Number(lseek(...args));
  return { at, errno: at < 0 ? lastErrno() : 0 };
}

/** {@link seek} off the event loop. */
async function seekAway(lseek: Seek, args: SeekArguments): Promise<Found> {
  return await new Promise((resolve, reject) =>
    lseek.async(...args, (error, result) => {
      const at = Number(result);
      const errno = at < 0 ? lastErrno() : 0;
      if (error) reject(error);
      else resolve({ at, errno });
    }),
  );
}

/**
 * Stretches of a file or device between two offsets that hold data, in order; what they leave out reads as zeros. One stretch where
 * nothing is known.
 */
export async function dataStretches(fd: number, start: number, end: number): Promise<readonly Stretch[]> {
  const lseek = calls()?.lseek;
  if (!lseek) return [{ start, end }];
  const stretches: Stretch[] = [];
  for (let at = start; at < end;) {
    const away = stretches.length % AT_ONCE === 0;
    const data = away ? await seekAway(lseek, [fd, at, SEEK_DATA]) : seek(lseek, [fd, at, SEEK_DATA]);
    if (data.errno === ENXIO) break;
    if (data.at < 0) return [...stretches, { start: at, end }];
    if (data.at >= end) break;
    if (stretches.length + 1 === MOST_STRETCHES) return [...stretches, { start: data.at, end }];
    const hole = seek(lseek, [fd, data.at, SEEK_HOLE]);
    const until = hole.at < 0 ? end : Math.min(hole.at, end);
    stretches.push({ start: data.at, end: until });
    at = until;
  }
  return stretches;
}

/** Where on its file system the blocks of a file lie that other files have, too; none where that is not known. */
export async function sharedExtents(fd: number): Promise<readonly Stretch[]> {
  const ioctl = calls()?.ioctlMemory;
  const shared: Stretch[] = [];
  const memory = new BigInt64Array(HEAD_WORDS + EXTENT_WORDS * EXTENTS_AT_ONCE);
  for (let start = 0n, asked = 0; ioctl && asked < MOST_CALLS; asked += 1) {
    memory.set([start, (1n << 62n) - start, 0n, BigInt(EXTENTS_AT_ONCE)]);
    const result = await new Promise<number>((resolve, reject) =>
      ioctl.async(fd, FIEMAP, memory, (error, value) => (error ? reject(error) : resolve(value))),
    );
    const count = Number((memory[2] ?? 0n) >> 32n);
    if (result !== 0 || count === 0) break;
    for (let index = 0; index < count; index += 1) {
      const [logical = 0n, physical = 0n, length = 0n, , , word = 0n] = memory.subarray(
        HEAD_WORDS + index * EXTENT_WORDS,
      );
      const flags = word & 0xffffffffn;
      if (flags & EXTENT_SHARED) shared.push({ start: Number(physical), end: Number(physical + length) });
      if (flags & EXTENT_LAST) return shared;
      start = logical + length;
    }
  }
  return shared;
}

/**
 * Copies a stretch within the kernel, off the event loop; as many bytes as it did at once.
 * @throws error with the system's `code`: `EXDEV`, `EINVAL`, `ENOSYS` or `EOPNOTSUPP` where it cannot do it for these two
 */
export async function copyRange(from: number, to: number, { start, end }: Stretch): Promise<number> {
  const found = calls();
  if (!found) throw systemError('copy_file_range', 38);
  const offsets = (): [BigInt64Array, BigInt64Array] => [
    BigInt64Array.of(BigInt(start)),
    BigInt64Array.of(BigInt(start)),
  ];
  const [fromOffset, toOffset] = offsets();
  const count = await new Promise<number>((resolve, reject) =>
    found.copy.async(from, fromOffset, to, toOffset, end - start, 0, (error, done) =>
      error ? reject(error) : resolve(Number(done)),
    ),
  );
  // named after the call, so that they are not collected during the call
  if (count >= 0 && fromOffset.length === toOffset.length) return count;
  // errno is another thread's: asked once more, on this one
  const [again, toAgain] = offsets();
  const repeated = Number(found.copy(from, again, to, toAgain, Math.min(end - start, 4096), 0));
  if (repeated >= 0) return repeated;
  throw systemError('copy_file_range', lastErrno());
}
