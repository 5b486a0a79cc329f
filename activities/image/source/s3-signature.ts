import { createHash, createHmac } from 'node:crypto';
import { S3RequestPresigner } from '@aws-sdk/s3-request-presigner';
import { encodeSegment } from './object-names.js';
import type { S3Address } from './s3-address.js';
import type { S3Keys } from './s3-credentials.js';

/** How long a signature is valid, in seconds; one whose session ends before ends with it. */
const VALID_SECONDS = 3600;

/**
 * The address of an object with a signature for GET in its query (SigV4). `Range` and `If-Range` are not signed, so one
 * signature serves all requests. It is as good as a key while it is valid: it belongs in no message, log or record.
 */
export async function presign({ url, region }: S3Address, credentials: S3Keys): Promise<URL> {
  const signer = new S3RequestPresigner({ region, credentials, sha256: Sha256 });
  const request = {
    method: 'GET',
    protocol: url.protocol,
    hostname: url.hostname,
    ...(url.port === '' ? {} : { port: Number(url.port) }),
    path: url.pathname,
    query: Object.fromEntries(url.searchParams),
    headers: { host: url.host },
  };
  const { query = {} } = await signer.presign(request, { expiresIn: VALID_SECONDS });
  const signed = new URL(url);
  signed.search = Object.entries(query)
    .map(([name, value]) => `${encodeSegment(name)}=${encodeSegment(String(value))}`)
    .join('&');
  return signed;
}

type HashConstructor = ConstructorParameters<typeof S3RequestPresigner>[0]['sha256'];

/** SHA-256 by node:crypto, with a secret HMAC, in the form of a class that the signer makes its hashes of. */
const Sha256 = function sha256(secret?: Uint8Array | string) {
  const hash = secret === undefined ? createHash('sha256') : createHmac('sha256', secret);
  return {
    update: (data: Uint8Array | string) => void hash.update(data),
    digest: async () => new Uint8Array(hash.digest()),
  };
} as unknown as HashConstructor;
