import { createPrivateKey } from 'node:crypto';
import type { JWT, JWTOptions } from 'google-auth-library';
import { permanentFailure, transientFailure } from '../../failures.js';
import { displayUrl } from './display-url.js';
import { isTransientStatus, statusText } from './http-failures.js';
import type { SmallAnswer, SmallRequest } from './small-request.js';

/** The right to read objects, and no other. */
const SCOPE = 'https://www.googleapis.com/auth/devstorage.read_only';

/** Where Google hands out tokens, if a key names no other place. */
const DEFAULT_TOKEN_URI = 'https://oauth2.googleapis.com/token';

/** What is taken from a service account's key. */
export interface ServiceAccountKey {
  readonly email: string;
  readonly privateKey: string;
  readonly tokenUri: URL;
}

/** Hands out the `Authorization` of a service account; `refused`: the last one was not taken. */
export type GcsAuthorization = (refused: boolean) => Promise<string>;

/**
 * Reads the JSON of a service account's key. Other kinds of credentials name files, addresses and programs that they come from:
 * in the hands of a tenant these would be the worker's, so they are refused.
 *
 * @throws `InvalidDataVolume`, without a word of the key.
 */
export function parseServiceAccountKey(text: string): ServiceAccountKey {
  const fields = objectOf(text);
  if (!fields) throw unusable('are not JSON');
  const {
    type,
    client_email: email,
    private_key: privateKey,
    token_uri: tokenUri = DEFAULT_TOKEN_URI,
  } = fields;
  if (type !== undefined && type !== 'service_account') {
    throw unusable('are not of type service_account, the only one that is supported');
  }
  if (typeof email !== 'string' || email === '') throw unusable('have no client_email');
  if (typeof privateKey !== 'string' || !isRsaKey(privateKey)) throw unusable('have no private_key of RSA');
  const parsed = typeof tokenUri === 'string' ? URL.parse(tokenUri) : null;
  if (parsed?.protocol !== 'https:' && parsed?.protocol !== 'http:') {
    throw unusable('have a token_uri that is no http or https address');
  }
  return { email, privateKey, tokenUri: parsed };
}

/**
 * Makes the tokens of a service account: the library signs and keeps them until shortly before they end. Its requests are sent
 * by `send`, to the `token_uri` of the key: that is a tenant's word, so it goes where a source may go, and nowhere else.
 */
export async function createGcsAuthorization(
  key: ServiceAccountKey,
  send: (request: SmallRequest) => Promise<SmallAnswer>,
): Promise<GcsAuthorization> {
  const { JWT } = await import('google-auth-library');
  const transporter = {
    request: async (options: { data?: unknown }) => ({ data: await askForToken(key, options, send) }),
  };
  const open = (): JWT =>
    new JWT({
      email: key.email,
      key: key.privateKey,
      scopes: [SCOPE],
      // the library would name Google's own address, whoever is asked
      additionalClaims: { aud: key.tokenUri.href },
      useAuthRequestParameters: false,
      transporter: transporter as unknown as NonNullable<JWTOptions['transporter']>,
    });
  let client = open();
  return async (refused) => {
    if (refused) client = open();
    const { token } = await client.getAccessToken();
    return `Bearer ${token ?? ''}`;
  };
}

/** @throws `SourceForbidden` when the account is refused, `SourceUnavailable` when nobody can say. */
async function askForToken(
  { tokenUri }: ServiceAccountKey,
  { data }: { data?: unknown },
  send: (request: SmallRequest) => Promise<SmallAnswer>,
): Promise<object> {
  const display = displayUrl(tokenUri);
  const { status, text } = await send({
    url: tokenUri,
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', accept: 'application/json' },
    body: String(data),
    display,
  });
  const answered = `POST ${display}: ${statusText(status)} for the service account`;
  if (isTransientStatus(status)) throw transientFailure('SourceUnavailable', answered);
  const { access_token: token, expires_in: seconds } = (status === 200 && objectOf(text)) || {};
  // a header is made of it
  if (typeof token !== 'string' || !/^[\x21-\x7e]{1,16384}$/u.test(token)) {
    throw permanentFailure('SourceForbidden', `${answered}, and no token`);
  }
  return {
    access_token: token,
    token_type: 'Bearer',
    ...(typeof seconds === 'number' ? { expires_in: seconds } : {}),
  };
}

function isRsaKey(pem: string): boolean {
  try {
    return createPrivateKey(pem).asymmetricKeyType === 'rsa';
  } catch {
    return false;
  }
}

function objectOf(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function unusable(why: string): Error {
  return permanentFailure('InvalidDataVolume', `credentials.json for GCS: they ${why}`);
}
