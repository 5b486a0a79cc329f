import { once } from 'node:events';
import { createReadStream, statSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A loopback server of one file, with ranges, that counts and can misbehave. */
export interface FileServer extends AsyncDisposable {
  readonly url: string;
  /** Bytes of bodies sent. */
  readonly sent: number;
  readonly requests: number;
  /** Version the server claims; change it and the source has changed. */
  etag: string;
  /** Bytes per second a connection gets. @default no limit */
  rate: number;
  /** Answers with this status instead. */
  status?: number | undefined;
  /** `Retry-After` that goes with it. */
  retryAfter?: string | undefined;
}

/** How a file is served; by default with ranges. */
export interface ServeOptions {
  /** @default true; false: every request gets the whole file with 200 */
  readonly ranges?: boolean;
  /** Told how many bytes of bodies were sent so far, after each piece of 64 KiB. */
  readonly onSent?: (sent: number) => void;
}

/** Serves `path` on a free port of 127.0.0.1. */
export async function serveFile(
  path: string,
  { ranges = true, onSent }: ServeOptions = {},
): Promise<FileServer> {
  const size = statSync(path).size;
  let sent = 0;
  let requests = 0;
  const state: Pick<FileServer, 'etag' | 'rate' | 'status' | 'retryAfter'> = { etag: '"v1"', rate: Infinity };

  /** What goes out on each connection: Node's server would send all pipelined answers at once, and each at the full rate. */
  const connections = new WeakMap<object, Promise<void>>();
  function send(response: ServerResponse, start: number, end: number): void {
    // of the request: the response has its socket only when the ones before it are out
    const { socket } = response.req;
    const before = connections.get(socket) ?? Promise.resolve();
    connections.set(
      socket,
      before.then(() => sendNow(response, start, end)),
    );
  }

  async function sendNow(response: ServerResponse, start: number, end: number): Promise<void> {
    // a reader that goes away must not leave the sender waiting
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    for await (const chunk of createReadStream(path, {
      start,
      end: Math.max(start, end),
      highWaterMark: 65_536,
    })) {
      if (response.destroyed || size === 0) return;
      const bytes = chunk as Buffer;
      sent += bytes.length;
      onSent?.(sent);
      if (!response.write(bytes))
        await once(response, 'drain', { signal: gone.signal }).catch(() => undefined);
      if (state.rate < Infinity)
        await new Promise((resolve) => setTimeout(resolve, (bytes.length / state.rate) * 1000));
    }
    response.end();
  }

  const server = createServer((request, response) => {
    requests += 1;
    if (state.status !== undefined) {
      const later = state.retryAfter === undefined ? {} : { 'retry-after': state.retryAfter };
      return void response.writeHead(state.status, later).end();
    }
    const match = ranges ? /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') : null;
    const headers = { etag: state.etag, ...(ranges ? { 'accept-ranges': 'bytes' } : {}) };
    const fresh = request.headers['if-range'] === undefined || request.headers['if-range'] === state.etag;
    if (!match || !fresh) {
      response.writeHead(200, { ...headers, 'content-length': size });
      return send(response, 0, size - 1);
    }
    const start = Number(match[1]);
    const end = Math.min(match[2] ? Number(match[2]) : size - 1, size - 1);
    response.writeHead(206, {
      ...headers,
      'content-length': end - start + 1,
      'content-range': `bytes ${start}-${end}/${size}`,
    });
    send(response, start, end);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return Object.defineProperties(state, {
    url: { value: `http://127.0.0.1:${port}/disk` },
    sent: { get: () => sent },
    requests: { get: () => requests },
    [Symbol.asyncDispose]: {
      value: async () => {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      },
    },
  }) as unknown as FileServer;
}
