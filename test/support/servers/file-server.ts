import { basename } from 'node:path';
import { createSelfSigned } from './certificates.js';
import { fileContent } from './content.js';
import type { Content } from './content.js';
import { startContentServer } from './content-server.js';
import type { Behaviour } from './content-server.js';
import type { ListenOptions, RunningServer, SeenRequest } from './server.js';

/** One file on a web server. */
export interface FileServerOptions extends Behaviour, ListenOptions {
  /** File to serve; its name is the end of the URL. */
  readonly path?: string;
  /** Instead of a file. */
  readonly content?: Content;
  /** Every connection is reset after so many bytes of a body. */
  readonly dropEvery?: number;
  /** The first so many requests get 503. */
  readonly failFirst?: number;
  /** Every request is redirected to this URL. */
  readonly redirectTo?: string;
}

/** A running file server whose behaviour can be changed while it answers. */
export interface FileServer extends RunningServer {
  /** URL of the file; every other path is 404. */
  readonly url: string;
  /** Bytes of the file. */
  readonly length: number;
  /** Bytes per second and connection, `undefined` for as fast as it goes. */
  setRate(bytesPerSecond: number | undefined): void;
  /** Status for all further requests, `undefined` for the file. */
  setStatus(status: number | undefined): void;
  setEtag(etag: string): void;
}

/** Serves a file, or a generated content, at one path. */
export async function startFileServer(options: FileServerOptions): Promise<FileServer> {
  const content = options.content ?? fileContent(options.path ?? '');
  const path = `/${encodeURIComponent(basename(options.path ?? 'disk.img'))}`;
  const changed: { rate?: number | undefined; status?: number | undefined; etag?: string } = {
    rate: options.bytesPerSecond,
    status: options.status,
  };
  const { dropEvery, failFirst = 0, redirectTo } = options;
  function behaviour(index: number, request: SeenRequest): Behaviour {
    const found = request.path.split('?')[0] === path;
    const status = changed.status ?? (found ? (index < failFirst ? 503 : undefined) : 404);
    return {
      ...options,
      ...(dropEvery === undefined ? {} : { dropAfter: dropEvery }),
      ...(redirectTo === undefined ? {} : { location: redirectTo }),
      ...(changed.etag === undefined ? {} : { etag: changed.etag }),
      status: status ?? (redirectTo === undefined ? undefined : 302),
      get bytesPerSecond() {
        return changed.rate;
      },
    };
  }
  const server = await startContentServer(content, behaviour, options);
  return {
    ...server,
    url: `${server.url}${path}`,
    length: content.size,
    setRate: (rate) => void (changed.rate = rate),
    setStatus: (status) => void (changed.status = status),
    setEtag: (etag) => void (changed.etag = etag),
  };
}

/** Serves a file over TLS, with a certificate for `localhost` that nobody vouches for, unless `tls` brings another. */
export async function startTlsServer(options: FileServerOptions): Promise<FileServer> {
  return startFileServer({ ...options, tls: options.tls ?? (await createSelfSigned(['localhost'])) });
}
