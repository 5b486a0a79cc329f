import { once } from 'node:events';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** A web server with one file on loopback. */
export interface FileServer {
  readonly url: string;
  close(): Promise<void>;
}

interface Range {
  readonly first: number;
  readonly last: number;
}

const CHUNK = 256 * 1024;

/**
 * Serves one file with ranges and a strong ETag, on a free port of 127.0.0.1; all connections together get `bytesPerSecond`, so
 * that somebody can watch.
 */
export async function serveFile(path: string, bytesPerSecond: number): Promise<FileServer> {
  const { size, mtimeMs } = await stat(path);
  const file = await open(path);
  const headers = {
    'Accept-Ranges': 'bytes',
    ETag: `"${size}-${Math.floor(mtimeMs)}"`,
    'Content-Type': 'application/octet-stream',
  };
  const pace = createPace(bytesPerSecond);
  const server = createServer((request, response) => {
    // A client that goes away is no error of ours.
    answer(request, response).catch(() => response.destroy());
  });
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { range: asked, 'if-range': condition } = request.headers;
    const range =
      asked && (condition === undefined || condition === headers.ETag) ? parseRange(asked, size) : undefined;
    if (range === 'unsatisfiable') {
      response.writeHead(416, { ...headers, 'Content-Range': `bytes */${size}` }).end();
      return;
    }
    const { first, last } = range ?? { first: 0, last: size - 1 };
    const partial = range ? { 'Content-Range': `bytes ${first}-${last}/${size}` } : {};
    response.writeHead(range ? 206 : 200, { ...headers, ...partial, 'Content-Length': last - first + 1 });
    if (request.method !== 'HEAD') await send(file, { first, last }, response, pace);
    response.end();
  }
  await new Promise<void>((listening, failed) =>
    server.once('error', failed).listen(0, '127.0.0.1', listening),
  );
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/${basename(path)}`,
    async close() {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
      await file.close();
    },
  };
}

/** One range, as RFC 9110 §14.1.2 writes it; several, or another unit, are answered with the whole file. */
function parseRange(header: string, size: number): Range | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header.trim());
  const [, from = '', to = ''] = match ?? [];
  if (!match || (from === '' && to === '')) return undefined;
  const first = from === '' ? Math.max(0, size - Number(to)) : Number(from);
  const last = from === '' || to === '' ? size - 1 : Math.min(Number(to), size - 1);
  return first > last ? 'unsatisfiable' : { first, last };
}

async function send(
  file: FileHandle,
  { first, last }: Range,
  response: ServerResponse,
  pace: (bytes: number) => Promise<void>,
): Promise<void> {
  for (let at = first; at <= last && !response.destroyed;) {
    const { bytesRead, buffer } = await file.read(
      Buffer.alloc(Math.min(CHUNK, last + 1 - at)),
      0,
      undefined,
      at,
    );
    await pace(bytesRead);
    const room = response.write(buffer.subarray(0, bytesRead));
    if (!room) await drained(response);
    at += bytesRead;
  }
}

/** Waits until the client has taken what was written, or is gone. */
async function drained(response: ServerResponse): Promise<void> {
  const settled = new AbortController();
  const { signal } = settled;
  try {
    await Promise.race([once(response, 'drain', { signal }), once(response, 'close', { signal })]);
  } finally {
    settled.abort();
  }
}

/** Gives each chunk its place in one queue of so many bytes a second. */
function createPace(bytesPerSecond: number): (bytes: number) => Promise<void> {
  let free = 0;
  return async (bytes) => {
    const start = Math.max(Date.now(), free);
    free = start + (bytes * 1000) / bytesPerSecond;
    await sleep(start - Date.now());
  };
}
