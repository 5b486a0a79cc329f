import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { PassThrough, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { pumpBody } from '../../workers/gateway/body-pump.js';
import { readFormFile } from '../../workers/gateway/form-file.js';

const BOUNDARY = 'a-boundary-as-long-as-a-browser-makes-them';
const PIECE = 16 * 1024;

/** A disk of pieces that each end like the beginning of a boundary, which the parser then keeps. */
function contentOf(pieces: number): Buffer {
  const almost = Buffer.from(`\r\n--${BOUNDARY.slice(0, 20)}`);
  return Buffer.concat(
    Array.from({ length: pieces }, () => Buffer.concat([randomBytes(PIECE - almost.length), almost])),
  );
}

function formOf(content: Buffer, epilogue: Buffer): Buffer {
  const part = (name: string): string =>
    `--${BOUNDARY}\r\nContent-Disposition: form-data; name="${name}"; filename="x"\r\n\r\n`;
  return Buffer.concat([
    Buffer.from(part('file')),
    content,
    Buffer.from(`\r\n${part('other')}`),
    epilogue,
    Buffer.from(`\r\n--${BOUNDARY}--\r\n`),
  ]);
}

/** The form in pieces of their own memory, as TLS hands them over. */
function piecesOf(form: Buffer, most: number): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < form.length;) {
    const bytes = Math.min(form.length - at, 1 + Math.floor(Math.random() * most));
    const piece = Buffer.from(new ArrayBuffer(bytes));
    form.copy(piece, 0, at, at + bytes);
    pieces.push(piece);
    at += bytes;
  }
  return pieces;
}

/** Looks at what it is given only when it writes it, a turn of the event loop later; the first pieces take long. */
function slowSink(written: Buffer[]): Writable {
  return new Writable({
    highWaterMark: PIECE * 4,
    write(piece: Buffer, _, done) {
      const wait = written.length < 8 ? 10 : 0;
      setTimeout(() => {
        written.push(Buffer.from(piece));
        setImmediate(done);
      }, wait);
    },
  });
}

describe('the file of a form', function () {
  this.timeout(60_000);

  for (const most of [2 * PIECE, 100])
    it(`in pieces of up to ${most} bytes is whole, and the memory of the pieces is given back`, async () => {
      const content = contentOf(most > PIECE ? 128 : 2);
      const form = formOf(content, randomBytes(8 * PIECE));
      const pieces = piecesOf(form, most);
      const head = form.indexOf('\r\n\r\n') + 4;
      // nobody knows of a file before its head is whole: the pieces of that are left to the collector
      const ofHead = pieces.findIndex((_, index) => lengthOf(pieces, index) >= head);
      const ofFile = pieces.findIndex((_, index) => lengthOf(pieces, index) > content.length);
      const request = Object.assign(new PassThrough({ highWaterMark: PIECE }), {
        headers: {},
        complete: true,
      });
      const reading = readFormFile(
        request as unknown as IncomingMessage,
        `multipart/form-data; boundary=${BOUNDARY}`,
      );
      const sending = (async () => {
        for (const piece of pieces) if (!request.write(piece)) await once(request, 'drain');
        request.end();
      })();
      const file = await reading;
      const written: Buffer[] = [];
      const sink = slowSink(written);
      const pump = pumpBody(file.source, sink, {
        ...file,
        limitBytes: content.length,
        limitReason: 'a test',
      });
      await Promise.all([pump.done, finished(sink), sending]);
      assert.ok(Buffer.concat(written).equals(content));
      const freed = pieces.slice(0, ofFile).filter(({ buffer }) => isFreed(buffer)).length;
      assert.ok(
        freed >= ofFile - ofHead - 4,
        `${freed} of ${ofFile} pieces were given back, ${ofHead} are the head's`,
      );
    });

  it('is not kept of a request that is read away', async () => {
    const request = Object.assign(new PassThrough(), { headers: {}, complete: true });
    request.write(formOf(Buffer.alloc(PIECE), Buffer.alloc(0)).subarray(0, PIECE / 2));
    await readFormFile(request as unknown as IncomingMessage, `multipart/form-data; boundary=${BOUNDARY}`);
    request.unpipe();
    assert.equal(request.listenerCount('data'), 0);
  });
});

const isFreed = (buffer: ArrayBufferLike): boolean => buffer instanceof ArrayBuffer && buffer.detached;

function lengthOf(pieces: readonly Buffer[], count: number): number {
  return pieces.slice(0, count).reduce((sum, { length }) => sum + length, 0);
}
