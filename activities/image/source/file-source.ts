import { close, constants, fstatSync, fsync, openSync, read, type BigIntStats } from 'node:fs';
import { promisify } from 'node:util';
import { permanentFailure, transientFailure } from '../../failures.js';
import { codeOf } from '../../node/directories.js';
import { blockDeviceSize } from '../block-device.js';
import { createStateReader } from '../clone/state.js';
import { deviceIdentity } from '../target/target-identity.js';
import { HEAD_BYTES } from './streamed-source.js';
import type { ImageSource, SourceFacts, SourceOptions } from './types.js';

/** Bytes that a stream reads at once; the next piece is on its way while one is worked on. */
const PIECE = 1024 * 1024;
const syncFile = promisify(fsync);

/** A file by its path, or one that is open already; a descriptor given stays open. */
export type FileOrigin = { readonly path: string } | { readonly fd: number; readonly name: string };

/**
 * A regular file or block device as a source, with ranges. Once it is closed no further read begins; the file itself is closed when
 * none is under way any more.
 * @throws {@link FailureType} `SourceNotFound`, `SourceForbidden`
 */
export function createFileSource(
  origin: FileOrigin,
  { signal, displayUrl }: Pick<SourceOptions, 'signal' | 'displayUrl'>,
): ImageSource {
  const name = 'path' in origin ? origin.path : origin.name;
  const fd = 'path' in origin ? openFile(name) : origin.fd;
  const size = sizeOf(fd, name);
  const found = fstatSync(fd, { bigint: true });
  const readState = found.isBlockDevice() ? createStateReader(fd) : undefined;
  let bytesRead = 0;
  let underway = 0;
  let closed = false;

  /** Not under a read: the descriptor's number may be another file's by then. */
  function release(): void {
    if (closed && underway === 0 && 'path' in origin) close(fd, () => undefined);
  }

  async function whileOpen<T>(work: () => Promise<T>): Promise<T> {
    if (closed) throw new Error(`${name} is read after it was closed`);
    underway += 1;
    try {
      return await work();
    } catch (error) {
      const message = `${name} cannot be read: ${String(codeOf(error))}`;
      throw transientFailure('SourceUnavailable', message, { cause: error });
    } finally {
      underway -= 1;
      release();
    }
  }

  async function readAll(start: number, target: Uint8Array): Promise<void> {
    for (let filled = 0; filled < target.length;) {
      signal.throwIfAborted();
      const count = await whileOpen(() => readSome(fd, target, filled, start + filled));
      if (count === 0)
        throw transientFailure(
          'SourceChanged',
          `${name}: source changed: it ends after ${start + filled} bytes, ${size} were there before`,
        );
      filled += count;
      bytesRead += count;
    }
  }

  /** State of a device. A write counts when the device gets it, and what another process wrote may be in memory still. */
  async function deviceState(): Promise<string | undefined> {
    if (!readState) return undefined;
    await whileOpen(() => syncFile(fd));
    return readState();
  }
  let beginning: Promise<string | undefined> | undefined;
  const begin = (): Promise<string | undefined> => (beginning ??= deviceState());

  /** None where another device may come by the same number unseen. */
  async function etagOf({ dev, ino, mtimeNs }: BigIntStats): Promise<string | undefined> {
    // who writes to a device, as a file system on it does, leaves the times of its node alone
    if (!readState) return `"${dev}-${ino}-${mtimeNs}"`;
    return deviceIdentity(fd) === undefined ? undefined : `"${await begin()}"`;
  }

  async function probe(): Promise<SourceFacts> {
    const etag = await etagOf(found);
    const head = Buffer.alloc(Math.min(HEAD_BYTES, size));
    await readAll(0, head);
    const validators = { ...(etag === undefined ? {} : { etag }), length: size };
    return { displayUrl: displayUrl ?? name, ranges: true, seekable: true, validators, head };
  }
  let probing: Promise<SourceFacts> | undefined;

  async function pieceAt(start: number): Promise<Buffer> {
    const piece = Buffer.allocUnsafeSlow(Math.max(0, Math.min(PIECE, size - start)));
    await readAll(start, piece);
    return piece;
  }

  /** A piece that is asked for later, or never: until then nobody hears that it cannot be read. */
  function ahead(start: number): Promise<Buffer> {
    const piece = pieceAt(start);
    piece.catch(() => undefined);
    return piece;
  }

  async function* stream(start: number): AsyncGenerator<Buffer> {
    let next = ahead(start);
    try {
      for (let at = start; at < size; at += PIECE) {
        const piece = await next;
        next = ahead(at + PIECE);
        yield piece;
      }
    } finally {
      await next.catch(() => undefined);
    }
  }

  async function isSame(): Promise<boolean> {
    const before = await begin();
    if (readState) return (await deviceState()) === before;
    const { mtimeNs, size: bytes } = fstatSync(fd, { bigint: true });
    return mtimeNs === found.mtimeNs && bytes === found.size;
  }

  /** What was written to while it was read has given a mixture. */
  async function requireSame(): Promise<void> {
    if (!(await isSame()))
      throw transientFailure('SourceChanged', `${name}: source changed: it was written to while it was read`);
  }

  return {
    probe: () => (probing ??= probe()),
    settle: requireSame,
    stream,
    readInto: readAll,
    get bytesRead() {
      return bytesRead;
    },
    close() {
      if (closed) return;
      closed = true;
      release();
    },
  };
}

function openFile(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (codeOf(error) === 'ENOENT' || codeOf(error) === 'ENOTDIR')
      throw permanentFailure('SourceNotFound', `${path} does not exist`, error);
    throw permanentFailure('SourceForbidden', `${path} cannot be opened: ${String(codeOf(error))}`, error);
  }
}

/** A device's size is where its last byte can be read: Node's `fstat` says 0. */
function sizeOf(fd: number, name: string): number {
  const found = fstatSync(fd);
  if (found.isFile()) return found.size;
  if (found.isBlockDevice()) return blockDeviceSize(fd);
  throw permanentFailure('UnsupportedSource', `${name} is neither a regular file nor a block device`);
}

function readSome(fd: number, target: Uint8Array, offset: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    read(fd, target, offset, target.length - offset, position, (error, count) =>
      error ? reject(error) : resolve(count),
    );
  });
}
