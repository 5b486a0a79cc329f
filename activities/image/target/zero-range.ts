import { fdatasync, write } from 'node:fs';
import { promisify } from 'node:util';
import { systemCall } from '../decode/native.js';
import { runTool } from '../tools.js';

/** `_IO(0x12, 127)` of linux/fs.h: zeros that are read as zeros whatever the device makes of a discard. */
const BLKZEROOUT = 0x127f;
/** One call's range: a device that has to write zeros takes its time, and a cancel must not wait for all of it. */
const CALL_BYTES = 1024 * 1024 * 1024;
/** A shorter range is written sooner than a tool has started. In bytes. */
const WORTH_A_TOOL = 4 * 1024 * 1024;

/** What {@link zeroRange} has besides the range. */
export interface ZeroOptions {
  readonly signal: AbortSignal;
  /** False: without koffi, for tests. */
  readonly native?: boolean;
  /** @default 'blkdiscard' */
  readonly tool?: string;
  /** Told how many bytes more are zero now. */
  readonly onZeroed?: ((bytes: number) => void) | undefined;
}

/**
 * Makes a range of a block device read as zeros: by `BLKZEROOUT` off the event loop, by `blkdiscard --zeroout` where koffi is not
 * installed, by writing them where the device can do neither. A plain discard promises nothing and is not used.
 * @throws the error of the device where it takes no zeros
 */
export async function zeroRange(
  fd: number,
  [start, end]: readonly [start: number, end: number],
  { signal, native = true, tool = 'blkdiscard', onZeroed }: ZeroOptions,
): Promise<void> {
  const ioctl = native ? systemCall<Ioctl>('int ioctl(int, unsigned long, void *)') : undefined;
  for (let at = start; at < end; at += CALL_BYTES) {
    signal.throwIfAborted();
    const range = { fd, start: at, length: Math.min(CALL_BYTES, end - at) };
    const done = ioctl
      ? await zeroByIoctl(ioctl, range)
      : range.length >= WORTH_A_TOOL && (await zeroByTool(tool, range));
    // says by its own error what the device has against zeros
    if (!done) await zeroByWriting(range, signal);
    onZeroed?.(range.length);
  }
}

/** Bytes of an open device. */
interface Range {
  readonly fd: number;
  readonly start: number;
  readonly length: number;
}

type Ioctl = { async(...args: unknown[]): void };

async function zeroByIoctl(ioctl: Ioctl, { fd, start, length }: Range): Promise<boolean> {
  const range = BigUint64Array.of(BigInt(start), BigInt(length));
  const result = await new Promise<number>((resolve, reject) =>
    ioctl.async(fd, BLKZEROOUT, range, (error: Error | null, value: number) =>
      error ? reject(error) : resolve(value),
    ),
  );
  // named after the call, so that it is not collected during the call
  return result === 0 && range.length > 0;
}

/**
 * The device is open already, exclusively where that can be: without `--force` the tool would open it so too, and be refused for that.
 * It opens by path, which a process without rights to the device's node cannot, such as the one that decodes: there zeros are written.
 */
async function zeroByTool(tool: string, { fd, start, length }: Range): Promise<boolean> {
  const args = ['--force', '--zeroout', '--offset', `${start}`, '--length', `${length}`, '/proc/self/fd/3'];
  return await runTool(tool, args, { fds: [fd] }).then(
    () => true,
    () => false,
  );
}

const ZEROS = Buffer.alloc(1024 * 1024);
const syncData = promisify(fdatasync);

async function zeroByWriting({ fd, start, length }: Range, signal: AbortSignal): Promise<void> {
  for (let at = start; at < start + length;) {
    signal.throwIfAborted();
    const count = Math.min(ZEROS.length, start + length - at);
    at += await new Promise<number>((resolve, reject) =>
      write(fd, ZEROS, 0, count, at, (error, written) => (error ? reject(error) : resolve(written))),
    );
  }
  // what the device refuses is known here, not after the whole disk
  await syncData(fd);
}
