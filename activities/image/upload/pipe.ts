/** How the pieces of a body get into the pipe of the process that decodes: as small as TLS records, and each as dear as a large one. */
import type { Writable } from 'node:stream';

/** What may wait for the pipe, in bytes: a wait for each piece would cost more than its bytes. */
const PIPE_BYTES = 1024 * 1024;

/** Pieces are written together, so many bytes at once: a call for each would cost as much as its decryption. */
const WRITE_BYTES = 256 * 1024;

/** Writes a piece, and calls back when it has been written; a promise when the pipe is full, until it is not, or has gone. */
export function writeOn(body: Writable, piece: Buffer, written: () => void): Promise<void> | undefined {
  gather(body);
  body.write(piece, written);
  if (body.writableLength >= WRITE_BYTES) body.uncork();
  if (body.destroyed || body.writableLength < PIPE_BYTES) return undefined;
  return drained(body);
}

/** Keeps what is written until the event loop has turned, or until it is uncorked. */
function gather(body: Writable): void {
  if (body.writableCorked > 0) return;
  body.cork();
  setImmediate(() => {
    if (body.writableCorked > 0) body.uncork();
  });
}

async function drained(body: Writable): Promise<void> {
  await new Promise<void>((resolve) => {
    const done = (): void => {
      body.off('drain', done).off('close', done);
      resolve();
    };
    body.on('drain', done).on('close', done);
  });
}
