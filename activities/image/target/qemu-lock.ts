import { systemCall } from '../decode/native.js';

/** `F_OFD_GETLK`, `F_WRLCK` and `F_UNLCK` of fcntl.h. */
const F_OFD_GETLK = 36;
const F_WRLCK = 1;
const F_UNLCK = 2;
/** `struct flock` with 64-bit offsets: type, whence, start, length, process. In bytes. */
const FLOCK = { bytes: 32, start: 8, length: 16 };
/** QEMU marks what it does with an image by locks on these bytes (`block/file-posix.c`, `RAW_LOCK_PERM_BASE` and `RAW_LOCK_SHARED_BASE`). */
const QEMU_BYTES = { start: 100, length: 104 };

/**
 * Whether a QEMU, or one of its tools, has an open file open as an image: `flock` does not see its locks. False where that cannot be
 * told: without koffi, or on a file system that has no such locks.
 */
export function isLockedByQemu(fd: number): boolean {
  const fcntl = systemCall<(fd: number, command: number, lock: Buffer) => number>(
    'int fcntl(int, int, void *)',
  );
  if (!fcntl) return false;
  const lock = Buffer.alloc(FLOCK.bytes);
  lock.writeInt16LE(F_WRLCK, 0);
  lock.writeBigInt64LE(BigInt(QEMU_BYTES.start), FLOCK.start);
  lock.writeBigInt64LE(BigInt(QEMU_BYTES.length), FLOCK.length);
  return fcntl(fd, F_OFD_GETLK, lock) === 0 && lock.readInt16LE(0) !== F_UNLCK;
}
