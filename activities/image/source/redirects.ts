import type { ClientRequest, IncomingMessage } from 'node:http';
import type { RequestError } from 'got';
import { permanentFailure } from '../../failures.js';
import {
  awaitHead,
  discard,
  endAsRequest,
  isWorthRepeating,
  requestOnce,
  requestTo,
  type Answer,
} from './answer.js';
import { withoutUserInfo } from './display-url.js';
import { lengthFailure, MAX_HEADER_BYTES, networkFailure } from './http-failures.js';
import type { Session } from './session.js';
import type { Entrance, RedirectTarget } from './types.js';

/** As many as CDI's client follows. */
const MAX_REDIRECTS = 10;
/** Statuses with a Location that another GET follows (RFC 9110 §15.4). */
const REDIRECTS = new Set([300, 301, 302, 303, 307, 308]);

/** Whose fault a failure is; not in the failure itself, since addresses may hold signatures and failures are told. */
const targets = new WeakMap<object, URL>();

/** The redirect's target that failed by its own fault, where another one may not: it cannot prove who it is. */
export function failedTarget(error: unknown): URL | undefined {
  return error instanceof Error ? targets.get(error) : undefined;
}

/** Headers of one request besides the user's. */
type OwnHeaders = Readonly<Record<string, string>>;

/** Code of an error that goes through got. */
const DOWNGRADE = 'ERR_TLS_DOWNGRADE';

/**
 * Asks the URL that the user named and follows its redirects; each hop gets the headers that are meant for it. A step from https
 * down to http is refused, unless the user does without proof of who answers (`insecureSkipVerify`): anybody on the way could answer.
 *
 * @param isFinal the user's URL has given an answer that is not to be followed. @default never
 * @throws `SourceNotFound` after 10 redirects or for one to no URL, `SourceNotAllowed` for a redirect to another scheme or from https
 * to http, and what {@link awaitHead} throws.
 */
export async function resolveFromOrigin(
  session: Session,
  own: OwnHeaders,
  isFinal: (answer: Answer) => boolean = () => false,
): Promise<Answer> {
  const entrance = await session.entrance();
  const home = withoutUserInfo(entrance.url);
  const answer = await requestOnce(session, { url: home, headers: { ...entrance.headers, ...own } });
  const { location } = answer.headers;
  if (location === undefined || !REDIRECTS.has(answer.status) || isFinal(answer)) return answer;
  discard(answer);
  return await follow(session, { entrance, own, first: firstHop(home, location, session) });
}

/** Where a Location leads, which servers write in UTF-8 though headers are Latin-1. */
function firstHop(home: URL, location: string, session: Session): URL {
  const { display } = session;
  const target = URL.parse(Buffer.from(location, 'latin1').toString(), home.href);
  if (!target) throw notAnAddress(display);
  if (target.protocol !== 'http:' && target.protocol !== 'https:') throw otherScheme(display);
  if (isDowngrade(session, home, target)) throw downgrade(display, target);
  return withoutUserInfo(target);
}

function isDowngrade({ agents }: Session, from: URL, to: URL): boolean {
  return agents.verified && from.protocol === 'https:' && to.protocol === 'http:';
}

interface Hops {
  readonly entrance: Entrance;
  readonly own: OwnHeaders;
  readonly first: URL;
}

/** How far the redirects have led. */
interface Trail {
  last: URL;
  /** Redirects that may follow. */
  left: number;
  /** The request to {@link Trail.last}. */
  request?: ClientRequest;
}

/**
 * From the first hop on got follows; it is loaded here, because most sources have no redirects and it takes 140 ms and 28 MB. A hop
 * whose failure says nothing about it is asked once more, and the way goes on from there.
 */
async function follow(session: Session, hops: Hops): Promise<Answer> {
  const trail: Trail = { last: hops.first, left: MAX_REDIRECTS - 1 };
  const errors: unknown[] = [];
  for (let repeated: URL | undefined; ;) {
    try {
      return await followFrom(session, hops, trail);
    } catch (error) {
      session.signal.throwIfAborted();
      const { last, request } = trail;
      if (last !== repeated) errors.length = 0;
      errors.push(error);
      if (last === repeated || !request || !isWorthRepeating(session, request, error)) {
        const failure = networkFailure(error, session.display, last);
        if (failure.type === 'SourceCertificateInvalid') targets.set(failure, last);
        throw lengthFailure(errors, failure) ?? failure;
      }
      repeated = last;
    }
  }
}

/** Goes on from where the trail has led. */
async function followFrom(session: Session, { entrance, own }: Hops, trail: Trail): Promise<Answer> {
  const { default: got } = await import('got');
  const { headers, agents, display } = session;
  let refused: URL | undefined;
  const headersFor = (target: URL): ReturnType<typeof headers.for> =>
    headers.for(target, target.origin === entrance.url.origin ? { ...entrance.headers, ...own } : own);
  const { last: first } = trail;
  const stream = got.stream(first, {
    // got has no option for the parser
    request: (url, options) => (trail.request = requestTo(session, url, options)),
    agent: agents.for(first),
    headers: headersFor(first),
    maxRedirects: trail.left,
    retry: { limit: 0 },
    throwHttpErrors: false,
    decompress: false,
    maxHeaderSize: MAX_HEADER_BYTES,
    hooks: {
      beforeRedirect: [
        (options, response) => {
          const target = options.url as URL;
          if (isDowngrade(session, new URL(response.url), target)) {
            refused = target;
            throw Object.assign(new Error('downgrade'), { code: DOWNGRADE });
          }
          trail.last = withoutUserInfo(target);
          trail.left -= 1;
          options.username = '';
          options.password = '';
          options.agent = agents.for(target);
          options.headers = headersFor(target);
        },
      ],
      beforeError: [(error: RequestError) => redirectFailure(error.code, display, refused ?? first) ?? error],
    },
  });
  const response = await awaitHead<IncomingMessage & { url?: string }>(session, stream, (resolve) => {
    stream.once('response', resolve);
  });
  if (trail.request) endAsRequest(trail.request, response, stream);
  const url = withoutUserInfo(new URL(response.url ?? first));
  const redirected = url.href !== withoutUserInfo(entrance.url).href;
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    ...(redirected ? { target: url, redirected: redirectTarget(session, entrance, url) } : {}),
    body: stream,
  };
}

/** How failures name the target of a redirect. */
export function redirectTarget({ headers }: Session, entrance: Entrance, target: URL): RedirectTarget {
  const { origin } = target;
  const has = headers.hasCredentials || 'authorization' in entrance.headers;
  return { origin, withheld: has && origin !== entrance.url.origin };
}

function redirectFailure(code: string, display: string, target: URL): Error | undefined {
  if (code === 'ERR_TOO_MANY_REDIRECTS')
    return permanentFailure('SourceNotFound', `GET ${display}: more than ${MAX_REDIRECTS} redirects`);
  if (code === DOWNGRADE) return downgrade(display, target);
  if (code === 'ERR_UNSUPPORTED_PROTOCOL') return otherScheme(display);
  return code === 'ERR_INVALID_URL' ? notAnAddress(display) : undefined;
}

function otherScheme(display: string): Error {
  return permanentFailure(
    'SourceNotAllowed',
    `GET ${display}: redirect to a scheme that is neither http nor https`,
  );
}

function downgrade(display: string, target: URL): Error {
  const failure = permanentFailure(
    'SourceNotAllowed',
    `GET ${display}: redirect from https to http, where nobody proves who answers: name the http address itself if it will do`,
  );
  targets.set(failure, target);
  return failure;
}

/** Without its cause, which would hold the address, and with it perhaps a signature. */
function notAnAddress(display: string): Error {
  return permanentFailure('SourceNotFound', `GET ${display}: redirect to an address that is no URL`);
}
