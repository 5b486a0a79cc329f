import type { IncomingMessage, ServerResponse } from 'node:http';
import { startServer } from '../../support/servers/index.js';
import type { ListenOptions, RunningServer } from '../../support/servers/index.js';
import { PAGE } from '../../support/servers/index.js';
import type { Image } from './images.js';

/** What a registry of a test does otherwise than a good one. */
export interface RegistryBehaviour {
  /** Answers instead of it where it does not return false. */
  readonly before?: (request: IncomingMessage, response: ServerResponse) => boolean | void;
  /** Bytes served for a blob instead of its own. */
  readonly blob?: (digest: string, bytes: Buffer) => Buffer;
  /** `ETag` of an answer with a blob, by the number of the request. @default none */
  readonly etag?: (index: number) => string;
  /** Address that blobs are redirected to. */
  readonly redirect?: (digest: string) => string | undefined;
  /** `Docker-Content-Digest` of manifests instead of the right one. */
  readonly announced?: string;
  /** `Content-Type` of manifests instead of the right one. */
  readonly contentType?: string;
}

/** Serves images by name (`repository:tag`), and each manifest and blob in them by digest, with ranges. */
export function startNodeRegistry(
  images: Readonly<Record<string, Image>>,
  behaviour: RegistryBehaviour = {},
  options: ListenOptions = {},
): Promise<RunningServer> {
  const manifests = new Map<string, Image>();
  const blobs = new Map<string, Buffer>();
  for (const [name, image] of Object.entries(images)) {
    const [repository = '', tag = ''] = name.split(':');
    manifests.set(`${repository}/${tag}`, image);
    for (const part of partsOf(image)) {
      manifests.set(`${repository}/${part.digest}`, part);
      for (const [digest, bytes] of part.blobs) blobs.set(digest, bytes);
    }
  }
  return startServer((request, response, seen, index) => {
    if (behaviour.before && behaviour.before(request, response) !== false) return;
    const { pathname } = new URL(request.url ?? '', 'http://registry');
    if (pathname === '/v2/') return void response.end('{}');
    const [, repository, kind, version = ''] =
      /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/u.exec(pathname) ?? [];
    const manifest = kind === 'manifests' ? manifests.get(`${repository}/${version}`) : undefined;
    if (manifest) {
      const { announced = manifest.digest, contentType = manifest.mediaType } = behaviour;
      response.writeHead(200, { 'content-type': contentType, 'docker-content-digest': announced });
      return void response.end(manifest.manifest);
    }
    const location = kind === 'blobs' ? behaviour.redirect?.(version) : undefined;
    if (location !== undefined) return void response.writeHead(307, { location }).end(PAGE);
    const bytes = kind === 'blobs' ? blobs.get(version) : undefined;
    if (!bytes) return void response.writeHead(404).end(PAGE);
    if (behaviour.etag) response.setHeader('etag', behaviour.etag(index));
    sendRange(request, response, behaviour.blob?.(version, bytes) ?? bytes);
    seen.bytesSent += bytes.length;
  }, options);
}

function* partsOf(image: Image): Generator<Image> {
  yield image;
  for (const inner of image.manifests) yield* partsOf(inner);
}

/** Answers with the asked range of the bytes. */
export function sendRange(request: IncomingMessage, response: ServerResponse, bytes: Buffer): void {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/u.exec(request.headers.range ?? '') ?? [];
  if (first === undefined || bytes.length === 0) {
    response.writeHead(200, { 'content-length': bytes.length }).end(bytes);
    return;
  }
  const end = Math.min(last ? Number(last) + 1 : bytes.length, bytes.length);
  response.writeHead(206, {
    'content-range': `bytes ${first}-${end - 1}/${bytes.length}`,
    'content-length': end - Number(first),
  });
  response.end(bytes.subarray(Number(first), end));
}
