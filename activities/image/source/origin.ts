import { permanentFailure } from '../../failures.js';
import { http } from './node-http.js';
import type { HttpRequest } from './types.js';

/** Headers of one request, as node:http and got take them; a name given twice is sent twice. */
export type RequestHeaders = Record<string, string | string[]>;

/** Which headers go to which server. */
export interface OriginHeaders {
  /** Some go to the named origin only, and are to prove who asks. */
  readonly hasCredentials: boolean;
  /** Headers for a request to `target`; `own` are the protocol's and win over the user's. */
  for(target: URL, own: Readonly<Record<string, string>>): RequestHeaders;
}

/** Never sent to a server that the user did not name, even if they are no declared secrets. */
const ORIGIN_ONLY = new Set(['authorization', 'cookie', 'cookie2', 'proxy-authorization', 'host']);

/** The reader's own business: another value would break ranges or the connection, so the user's are left out. */
const RESERVED = new Set([
  'range',
  'if-range',
  'accept-encoding',
  'connection',
  'content-length',
  'transfer-encoding',
  'expect',
  'upgrade',
  'te',
  'trailer',
]);

/** What a Secret's bytes become that are no UTF-8: the server would get another value than was written. */
const NOT_UTF8 = '\ufffd';

type Header = readonly [name: string, value: string];

/**
 * Decides once what may be sent where: extra headers everywhere, but secret ones, credentials and {@link ORIGIN_ONLY} only to
 * scheme, host and port that the user named. CDI sends everything everywhere, which hands credentials to any redirect target.
 *
 * @throws `InvalidDataVolume` for a header that HTTP cannot carry, or two of `Host`, by its name only.
 */
export function createOriginHeaders(request: HttpRequest, origin: URL): OriginHeaders {
  const extra = request.headers.map(checked).filter(([name]) => !RESERVED.has(name));
  const secret = request.secretHeaders.map(checked).filter(([name]) => !RESERVED.has(name));
  if ([...extra, ...secret].filter(([name]) => name === 'host').length > 1)
    throw permanentFailure(
      'InvalidDataVolume',
      'header host is given more than once, which HTTP does not allow',
    );
  const authorization = basicAuth(request, origin);
  const elsewhere = extra.filter(([name]) => !ORIGIN_ONLY.has(name));
  const home = [...extra, ...secret].filter(([name]) => !(authorization && name === 'authorization'));
  if (authorization) home.push(['authorization', authorization]);
  const kept = home.filter((header) => header[0] !== 'host' && !elsewhere.includes(header));
  return {
    hasCredentials: kept.length > 0,
    for(target, own) {
      const users: RequestHeaders = {};
      for (const [name, value] of target.origin === origin.origin ? home : elsewhere) {
        const before = users[name];
        users[name] = before === undefined ? value : [before, value].flat();
      }
      return { 'user-agent': 'dvflow', accept: '*/*', ...users, 'accept-encoding': 'identity', ...own };
    },
  };
}

function checked([rawName, rawValue]: Header): Header {
  const name = rawName.trim();
  // secrets are written with editors and `echo`: their last line feed, which is white space too, is not meant
  const text = rawValue.trim();
  const value = onTheWire(text);
  try {
    http.validateHeaderName(name);
  } catch {
    throw permanentFailure('InvalidDataVolume', `header name ${JSON.stringify(name)} is not valid in HTTP`);
  }
  try {
    http.validateHeaderValue(name, value);
  } catch {
    throw permanentFailure(
      'InvalidDataVolume',
      `value of header ${name} holds characters that HTTP does not allow`,
    );
  }
  if (text.includes(NOT_UTF8))
    throw permanentFailure('InvalidDataVolume', `value of header ${name} is not UTF-8`);
  return [name.toLowerCase(), value];
}

/** UTF-8, as CDI sends it, for Node's clients and our own, which write a byte for each character. */
function onTheWire(text: string): string {
  return Buffer.from(text).toString('latin1');
}

/** Basic auth from the Secret when both halves are there (CDI's rule), else from the URL's user info. */
function basicAuth(request: HttpRequest, origin: URL): string | undefined {
  if (request.username && request.password) return encode(request.username, request.password);
  return userInfoAuth(origin);
}

/** Basic auth from the user info of a URL, or `undefined` where it has none. */
export function userInfoAuth({ username, password }: URL): string | undefined {
  if (!username && !password) return undefined;
  return encode(decoded(username), decoded(password));
}

function encode(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
