import type { Readable } from 'node:stream';
import { networkFailure, unavailable } from './http-failures.js';
import { createStallWatch } from './stall.js';
import type { Session } from './session.js';

/** Reads the body of one answer chunk by chunk. */
export interface BodyReader {
  /**
   * The next bytes, or `undefined` at the end of the body. Nothing is read before it is called.
   *
   * @throws `SourceUnavailable` on a stall or a lost connection, or the signal's reason.
   */
  next(): Promise<Buffer | undefined>;
  /** Ends the connection if the body has not ended. */
  close(): void;
}

/** Makes the reader of a body; the session counts its bytes, its signal and its stall limit end it. */
export function createBodyReader(body: Readable, session: Session): BodyReader {
  const { signal, display, stallMs } = session;
  const chunks = body.iterator({ destroyOnReturn: true }) as AsyncIterator<Buffer, undefined>;
  const watch = createStallWatch(stallMs, () => body.destroy(new Error('stalled')));
  const onAbort = (): void => void body.destroy(new Error('aborted'));
  // an error that comes while nobody reads is met again by the next read
  body.on('error', () => undefined);
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();

  function close(): void {
    watch.stop();
    signal.removeEventListener('abort', onAbort);
    if (!body.readableEnded) body.destroy();
  }

  async function next(): Promise<Buffer | undefined> {
    watch.arm();
    try {
      const { value, done } = await chunks.next();
      signal.throwIfAborted();
      if (done) close();
      else session.received(value.length);
      return done ? undefined : value;
    } catch (error) {
      close();
      signal.throwIfAborted();
      if (watch.fired) throw unavailable(display, `no byte for ${stallMs} ms`);
      throw networkFailure(error, display);
    } finally {
      watch.disarm();
    }
  }

  return { next, close };
}
