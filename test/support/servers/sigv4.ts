import { createHash, createHmac } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

/** A request whose signature is in its query. */
export interface PresignedRequest {
  readonly method: string;
  /** Path and query as they were sent. */
  readonly target: string;
  readonly headers: IncomingHttpHeaders;
}

/**
 * The signature that the holder of a secret would have made for a presigned request: AWS's "Authenticating Requests: Using Query
 * Parameters (AWS Signature Version 4)", step by step. As a server does, it decodes what came and writes it anew, so a client
 * that escapes in another way than it signs is found out.
 */
export function signatureOf({ method, target, headers }: PresignedRequest, secret: string): string {
  const { pathname, searchParams } = new URL(`http://any${target}`);
  const parameter = (name: string): string => searchParams.get(`X-Amz-${name}`) ?? '';
  const signedHeaders = parameter('SignedHeaders').split(';');
  const scope = parameter('Credential').split('/').slice(1);
  const canonical = [
    method,
    decodeURIComponent(pathname).split('/').map(escaped).join('/'),
    [...searchParams]
      .filter(([name]) => name !== 'X-Amz-Signature')
      .map(([name, value]) => `${escaped(name)}=${escaped(value)}`)
      .sort()
      .join('&'),
    ...signedHeaders.map((name) => `${name}:${String(headers[name]).trim()}`),
    '',
    signedHeaders.join(';'),
    'UNSIGNED-PAYLOAD',
  ].join('\n');
  const toSign = [
    'AWS4-HMAC-SHA256',
    parameter('Date'),
    scope.join('/'),
    createHash('sha256').update(canonical).digest('hex'),
  ].join('\n');
  const key = scope.reduce<string | Buffer>((derived, part) => hmac(derived, part), `AWS4${secret}`);
  return hmac(key, toSign).toString('hex');
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

/** UriEncode of the specification: each byte but unreserved characters. */
function escaped(text: string): string {
  return [...Buffer.from(text)]
    .map((byte) => {
      const character = String.fromCharCode(byte);
      return /[A-Za-z0-9\-._~]/u.test(character)
        ? character
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
    })
    .join('');
}
