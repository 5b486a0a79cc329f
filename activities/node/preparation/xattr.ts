/** The attribute that holds a file's SELinux label; Node has no word for extended attributes, the C library has. */
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { lastErrno, openLibrary } from '../../image/decode/native.js';

const ATTRIBUTE = 'security.selinux';
/** The calls never fail by EAGAIN: where `errno` says so it is not theirs ({@link lastErrno}), and they are made again, so often. */
const CALLS = 5;
/** A context is some dozens of bytes; the longest attribute that Linux keeps is this long. */
const MOST_BYTES = 65_536;

/** Labels of entries, which no call follows where they are symbolic links. */
export interface LabelAccess {
  /** The label, without the zero at its end; absent where the entry has none. @throws {@link XattrError} */
  read(path: Buffer | string): string | undefined;
  /** @throws {@link XattrError} */
  write(path: Buffer | string, label: string): void;
}

/** The kernel refused; `code` is the error's name, as of Node's own errors. */
export class XattrError extends Error {
  override readonly name = 'XattrError';
  readonly code: string;
  constructor(code: string, doing: string) {
    super(`${code}: ${doing}`);
    this.code = code;
  }
}

type Get = (path: Buffer, name: string, value: Buffer, size: number) => number;
type Set = (path: Buffer, name: string, value: Buffer, size: number, flags: number) => number;

/**
 * Opens the C library's calls. They take microseconds and run on the calling thread.
 * @throws Error where the C library cannot be called: no labels can be read or set there
 */
export function openLabelAccess(): LabelAccess {
  const libc = openLibrary('libc');
  if (!libc) throw new Error('the C library cannot be called here (koffi has no binary for this system)');
  const get = libc.func('long lgetxattr(const void *, const char *, void *, size_t)') as Get;
  const set = libc.func('int lsetxattr(const void *, const char *, const void *, size_t, int)') as Set;
  const value = Buffer.alloc(MOST_BYTES);
  return {
    read(path) {
      const file = terminated(path);
      const { result, code } = call(() => get(file, ATTRIBUTE, value, value.length));
      if (code === undefined) return value.toString('latin1', 0, result).replace(/\0+$/, '');
      // a file system without labels has none either; whether it takes one is seen when one is set
      if (code === 'ENODATA' || code === 'ENOTSUP' || code === 'EOPNOTSUPP') return undefined;
      throw new XattrError(code, 'reading a SELinux label');
    },
    write(path, label) {
      // libselinux writes the zero too
      const bytes = Buffer.from(`${label}\0`, 'latin1');
      const file = terminated(path);
      const { code } = call(() => set(file, ATTRIBUTE, bytes, bytes.length, 0));
      if (code !== undefined) throw new XattrError(code, `setting SELinux label ${label}`);
    },
  };
}

/** Makes a call that tells of its failure by a negative result and `errno`; `code` is that one's name. */
function call(work: () => number): { readonly result: number; readonly code?: string } {
  for (let calls = 1; ; calls += 1) {
    const result = work();
    if (result >= 0) return { result };
    const errno = lastErrno();
    if (errno !== constants.errno.EAGAIN || calls === CALLS)
      return { result, code: getSystemErrorName(-errno) };
  }
}

function terminated(path: Buffer | string): Buffer {
  return Buffer.concat([typeof path === 'string' ? Buffer.from(path) : path, Buffer.alloc(1)]);
}
