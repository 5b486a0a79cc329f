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
 * each, and clusters in it need no copy. At most 3 MiB are read ahead. A connection that is reset ends as any other does.
 */
export async function* readBody(fd: number): AsyncGenerator<Buffer> {
  const slabs: Buffer[] = [];
  let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
  let filled = 0;
  let given = 0;
  /** When the first byte came that has not been handed on, in ms. */
  let since = 0;
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
    wake();
  };
  socket.on('end', end).on('close', end).on('error', end);

  /** Whether more is wanted at once. */
  function took(bytes: number): boolean {
    if (filled === given) since = performance.now();
    filled += bytes;
    if (filled === SLAB_BYTES) {
      slabs.push(slab.subarray(given));
      slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
      filled = given = 0;
    }
    wake();
    return slabs.length < WAITING_SLABS;
  }

  async function more(ms?: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      wake = resolve;
      if (ms !== undefined) timer = setTimeout(resolve, ms);
    });
    clearTimeout(timer);
    wake = () => undefined;
  }

  try {
    while (slabs.length > 0 || filled > given || !ended) {
      const waited = performance.now() - since;
      const whole = slabs.shift();
      if (whole) yield whole;
      else if (filled > given && (ended || waited >= LINGER_MS)) {
        const piece = slab.subarray(given, filled);
        given = filled;
        yield piece;
      } else await more(filled > given ? LINGER_MS - waited : undefined);
      socket.resume();
    }
  } finally {
    socket.destroy();
  }
}
