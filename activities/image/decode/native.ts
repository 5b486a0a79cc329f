import { createRequire } from 'node:module';
import type * as koffi from 'koffi';

/** A library's functions, bound; absent where the library or koffi itself is not installed. */
type Library = koffi.LibraryHandle;

/** glibc's names; musl and other systems have no koffi binary in the image, and get Node's decoders. */
const LIBRARIES = {
  deflate: 'libdeflate.so.0',
  zstd: 'libzstd.so.1',
  lzma: 'liblzma.so.5',
  libc: 'libc.so.6',
};

const loaded = new Map<string, Library | undefined>();

/** Opens one of the distribution's libraries; `undefined` where it is missing, so that the caller takes Node's own decoder. */
export function openLibrary(name: keyof typeof LIBRARIES): Library | undefined {
  if (!loaded.has(name)) loaded.set(name, tryOpen(LIBRARIES[name]));
  return loaded.get(name);
}

function tryOpen(file: string): Library | undefined {
  try {
    // Node exports a zstd of its own: without RTLD_DEEPBIND the library's inner calls would end there, on structures of another version
    return requireKoffi().load(file, { deep: true });
  } catch {
    return undefined;
  }
}

const systemCalls = new Map<string, unknown>();

/** A function of the C library by its declaration, bound once; `undefined` where the library cannot be called. */
export function systemCall<F>(declaration: string): F | undefined {
  if (!systemCalls.has(declaration)) systemCalls.set(declaration, openLibrary('libc')?.func(declaration));
  return systemCalls.get(declaration) as F | undefined;
}

/**
 * `errno` as the last call of a library's function left it on this thread: to be asked at once, since whatever else the thread does
 * may change it. V8 collecting garbage in between leaves `EAGAIN`, seldom; who cannot have that asks again.
 */
export function lastErrno(): number {
  return requireKoffi().errno();
}

let loadedKoffi: typeof koffi | undefined;

/** CommonJS, loaded when the first library is asked for: 20 ms that most commands do not need. */
function requireKoffi(): typeof koffi {
  return (loadedKoffi ??= createRequire(import.meta.url)('koffi') as typeof koffi);
}
