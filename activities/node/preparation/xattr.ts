/** The attribute that holds a file's SELinux label; Node has no word for extended attributes, the C library has. */
import { getSystemErrorName } from 'node:util';
import { lastErrno, openLibrary } from '../../image/decode/native.js';

const ATTRIBUTE = 'security.selinux';
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
      const length = get(terminated(path), ATTRIBUTE, value, value.length);
      if (length >= 0) return value.toString('latin1', 0, length).replace(/\0+$/, '');
      const code = getSystemErrorName(-lastErrno());
      // a file system without labels has none either; whether it takes one is seen when one is set
      if (code === 'ENODATA' || code === 'ENOTSUP' || code === 'EOPNOTSUPP') return undefined;
      throw new XattrError(code, 'reading a SELinux label');
    },
    write(path, label) {
      // libselinux writes the zero too
      const bytes = Buffer.from(`${label}\0`, 'latin1');
      if (set(terminated(path), ATTRIBUTE, bytes, bytes.length, 0) === 0) return;
      throw new XattrError(getSystemErrorName(-lastErrno()), `setting SELinux label ${label}`);
    },
  };
}

function terminated(path: Buffer | string): Buffer {
  return Buffer.concat([typeof path === 'string' ? Buffer.from(path) : path, Buffer.alloc(1)]);
}
