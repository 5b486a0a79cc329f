/** The body of an upload as the process that decodes it reads it from its worker. */
import { Socket } from 'node:net';

/** What is read into one piece of memory. A socket gives a few hundred KiB at most at once, and clusters that are cut in two are copied. */
const SLAB_BYTES = 1024 * 1024;
/** Whole slabs that wait for their reader. */
const WAITING_SLABS = 2;
/** A slow client's bytes are handed on after this time, in ms, however few they are. */
const LINGER_MS = 20;

/**
 * Reads `fd` to its end, in pieces that end on a boundary of 1 MiB of the body wherever it keeps coming: memory is allocated once for
 * each, and clusters in it need no copy. At most 4 MiB are read ahead. A connection that is reset ends as any other does; so does the
 * body after `signal`: who waits for its next byte then has time to keep what has come.
 */
export async function* readBody(fd: number, signal?: AbortSignal): AsyncGenerator<Buffer> {
  const ready: Buffer[] = [];
  let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
  let filled = 0;
  let given = 0;
  let linger: NodeJS.Timeout | undefined;
  let ended = false;
  let wake = (): void => undefined;

  const socket = new Socket({
    fd,
    readable: true,
    writable: false,
    onread: { buffer: () => slab.subarray(filled), callback: (bytes) => took(bytes) },
  });
  const end = (): void => {
    ended = true;
    clearTimeout(linger);
    lingered();
  };
  socket.on('end', end).on('close', end).on('error', end);
  signal?.addEventListener('abort', end, { once: true });
  if (signal?.aborted) end();

  /** Whether more is wanted at once. The reader is woken for a whole slab, or for what has lingered. */
  function took(bytes: number): boolean {
    if (filled === given) linger = setTimeout(lingered, LINGER_MS);
    filled += bytes;
    if (filled < SLAB_BYTES) return true;
    clearTimeout(linger);
    ready.push(slab.subarray(given));
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    filled = given = 0;
    wake();
    return ready.length < WAITING_SLABS;
  }

  function lingered(): void {
    if (filled > given) ready.push(slab.subarray(given, filled));
    given = filled;
    wake();
  }

  try {
    for (;;) {
      const piece = ready.shift();
      if (piece) yield piece;
      else if (ended) return;
      else await new Promise<void>((resolve) => (wake = resolve));
      socket.resume();
    }
  } finally {
    signal?.removeEventListener('abort', end);
    clearTimeout(linger);
    socket.destroy();
  }
}
