import { verify } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { PAGE } from './content-server.js';
import type { GoServer } from './go-servers.js';
import { handOn } from './hand-on.js';
import { startServer } from './server.js';
import type { ListenOptions, RunningServer } from './server.js';

/** Whom a GCS server lets in. */
export interface GcsServerOptions extends ListenOptions {
  /** The objects themselves. */
  readonly store: GoServer;
  /** Tokens that are taken; read for each request. @default nobody is asked for one */
  readonly tokens?: ReadonlySet<string>;
}

/** Starts what Google has before its objects: 401 without a token that is taken. */
export function startGcsServer({ store, tokens, ...options }: GcsServerOptions): Promise<RunningServer> {
  return startServer((request, response) => {
    const [, token = ''] = /^Bearer (.+)$/u.exec(request.headers.authorization ?? '') ?? [];
    if (tokens && !tokens.has(token)) response.writeHead(401).end(PAGE);
    else handOn(request, response, new URL(request.url ?? '', store.url));
  }, options);
}

/** Puts an object into the store behind the server; `bucket` is made if it is new. */
export async function putGcsObject(
  store: GoServer,
  { bucket, name, contentEncoding }: { bucket: string; name: string; contentEncoding?: string },
  body: Buffer,
): Promise<void> {
  await fetch(`${store.url}/storage/v1/b?project=test`, {
    method: 'POST',
    body: JSON.stringify({ name: bucket }),
  });
  const query = new URLSearchParams({
    uploadType: 'media',
    name,
    ...(contentEncoding ? { contentEncoding } : {}),
  });
  const answer = await fetch(`${store.url}/upload/storage/v1/b/${bucket}/o?${query.toString()}`, {
    method: 'POST',
    headers: { 'content-type': 'application/octet-stream' },
    body: new Uint8Array(body),
  });
  if (!answer.ok) throw new Error(`upload of ${name}: ${answer.status}`);
}

/** Who gets tokens. */
export interface TokenServerOptions extends ListenOptions {
  readonly email: string;
  /** In PEM. */
  readonly publicKey: string;
  /** Tokens that were handed out. */
  readonly tokens: Set<string>;
  /** Seconds that a token is said to last. @default 3600 */
  readonly lifetime?: number;
  /** The name that it goes by. @default that of its own URL */
  readonly host?: string;
}

/** Starts a token endpoint of OAuth for service accounts (RFC 7523): the assertion is verified in every part. */
export async function startTokenServer(options: TokenServerOptions): Promise<RunningServer> {
  const { email, publicKey, tokens, lifetime = 3600, host } = options;
  const server = await startServer(async (request, response, _seen, index) => {
    const form = new URLSearchParams(await text(request));
    const isRight =
      request.method === 'POST' &&
      form.get('grant_type') === 'urn:ietf:params:oauth:grant-type:jwt-bearer' &&
      isAssertion(form.get('assertion') ?? '', { publicKey, email, audience: audience.href });
    response.setHeader('content-type', 'application/json');
    if (!isRight) {
      response.writeHead(400).end(JSON.stringify({ error: 'invalid_grant', error_description: PAGE }));
      return;
    }
    const token = `sesame-${index}`;
    tokens.add(token);
    response.end(JSON.stringify({ access_token: token, expires_in: lifetime, token_type: 'Bearer' }));
  }, options);
  const audience = new URL('/token', server.url);
  if (host !== undefined) audience.hostname = host;
  return server;
}

function isAssertion(
  assertion: string,
  { publicKey, email, audience }: { publicKey: string; email: string; audience: string },
): boolean {
  const [header = '', claims = '', signature = ''] = assertion.split('.');
  const read = (part: string) =>
    JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>;
  const { iss, aud, scope, iat, exp } = read(claims);
  const now = Date.now() / 1000;
  return (
    read(header)['alg'] === 'RS256' &&
    verify('sha256', Buffer.from(`${header}.${claims}`), publicKey, Buffer.from(signature, 'base64url')) &&
    iss === email &&
    aud === audience &&
    scope === 'https://www.googleapis.com/auth/devstorage.read_only' &&
    Math.abs(now - Number(iat)) < 60 &&
    Number(exp) > now &&
    Number(exp) <= now + 3600
  );
}
