import type { IncomingMessage, ServerResponse } from 'node:http';
import { PAGE } from './content-server.js';
import type { GoServer } from './go-servers.js';
import { handOn } from './hand-on.js';
import { startServer } from './server.js';
import type { ListenOptions, RunningServer } from './server.js';
import { signatureOf } from './sigv4.js';

/** Whom an S3 server lets in. */
export interface S3ServerOptions extends ListenOptions {
  /** The objects themselves. */
  readonly store: GoServer;
  /** Secrets by access key; read for each request, so that keys can change. */
  readonly keys?: Readonly<Record<string, string>>;
  /** Session tokens that a key must come with. */
  readonly sessions?: Readonly<Record<string, string>>;
  /** Objects may be read without a signature. */
  readonly isPublic?: boolean;
  /** Region of the bucket; others are answered with its name. @default any */
  readonly region?: string;
  /** Status of the answer to another region. @default 400 */
  readonly elsewhere?: 301 | 307 | 400;
  /** Where that answer names the bucket's region. @default header */
  readonly tells?: 'header' | 'body';
  /** Where the answer to another region leads. @default nowhere */
  readonly location?: string;
}

/**
 * Starts what AWS has before its objects: signatures are made anew from what came and compared, and a host name that begins with
 * a bucket is understood (`bucket.s3.eu-west-1.amazonaws.com`).
 */
export function startS3Server(options: S3ServerOptions): Promise<RunningServer> {
  return startServer((request, response) => {
    const refusal = refusalOf(request, options);
    if (!refusal) return void serve(request, response, options.store);
    const { status, headers, body = '' } = refusal;
    response
      .writeHead(status, { 'content-type': 'application/xml', ...headers })
      .end(`<Error>${PAGE}${body}</Error>`);
  }, options);
}

/** Puts an object into the store behind the server. */
export async function putObject(store: GoServer, path: string, body: Buffer): Promise<void> {
  const answer = await fetch(`${store.url}${path}`, { method: 'PUT', body: new Uint8Array(body) });
  if (!answer.ok) throw new Error(`PUT ${path}: ${answer.status}`);
}

interface S3Refusal {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

function refusalOf(request: IncomingMessage, options: S3ServerOptions): S3Refusal | undefined {
  const { region, keys = {}, sessions = {}, elsewhere = 400 } = options;
  const { method = '', url: target = '', headers } = request;
  const location = options.location === undefined ? {} : { location: options.location };
  const moved =
    options.tells === 'body'
      ? { status: elsewhere, body: `<Region>${region ?? ''}</Region>` }
      : { status: elsewhere, headers: { 'x-amz-bucket-region': region ?? '', ...location } };
  const query = new URL(`http://any${target}`).searchParams;
  const signature = query.get('X-Amz-Signature');
  if (headers.authorization !== undefined) return { status: 400 };
  if (!signature) {
    if (!options.isPublic) return { status: 403 };
    return region !== undefined && !headers.host?.includes(region) ? moved : undefined;
  }
  const [key = '', , signedRegion] = (query.get('X-Amz-Credential') ?? '').split('/');
  const secret = keys[key];
  if (region !== undefined && signedRegion !== region) return moved;
  if (secret === undefined || signatureOf({ method, target, headers }, secret) !== signature)
    return { status: 403 };
  // AWS answers 400 to a token that has expired
  if (sessions[key] !== (query.get('X-Amz-Security-Token') ?? undefined)) return { status: 400 };
  return isExpired(query) ? { status: 403 } : undefined;
}

function isExpired(query: URLSearchParams): boolean {
  const date = query.get('X-Amz-Date') ?? '';
  const signedAt = Date.parse(
    date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/u, '$1-$2-$3T$4:$5:$6Z'),
  );
  return !(Date.now() < signedAt + Number(query.get('X-Amz-Expires')) * 1000);
}

function serve(request: IncomingMessage, response: ServerResponse, store: GoServer): void {
  const { pathname } = new URL(`http://any${request.url ?? ''}`);
  const [, bucket] = /^(.+)\.s3[.-].*amazonaws\.com$/u.exec(request.headers.host ?? '') ?? [];
  const path = `${bucket === undefined ? '' : `/${bucket}`}${pathname}`;
  handOn(request, response, new URL(path, store.url));
}
