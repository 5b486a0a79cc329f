import type { IncomingHttpHeaders } from 'node:http';
import { failureTypeOf, transientFailure } from '../../failures.js';
import { beginningOf, discard, requestOnce } from './answer.js';
import type { Answer } from './answer.js';
import { statusFailure, statusText } from './http-failures.js';
import type { ByteRange } from './ranges.js';
import { rangeHeader } from './ranges.js';
import { failedTarget, redirectTarget, resolveFromOrigin } from './redirects.js';
import type { Session } from './session.js';
import type { Entrance } from './types.js';

/** What is asked for: all of the source, or a range of it that must be of the version that `ifRange` names. */
export interface Ask {
  readonly range?: ByteRange;
  readonly ifRange?: string;
  /** Nobody knows yet whether the server takes ranges: an answer that may only refuse the range is handed back. */
  readonly probing?: true;
}

/**
 * What servers say to a request because it has a Range, besides 416. A 403 may mean that as well, but nearly always means the one
 * who asks: to ask once more would cost every forbidden source a request, and count twice where failed logins are counted.
 */
const NO_RANGES = new Set([400, 501]);

/** Finds the way from the user's URL to the bytes, and remembers it. */
export interface Route {
  /**
   * Sends one request; the answer is a 200, a 206 or, to a range, a 416; to a probing one also a 400 or 501. Its body must be read or destroyed.
   *
   * @throws the failures of `http-failures.ts`, or the signal's reason.
   */
  open(ask: Ask): Promise<Answer>;
  /** Where the last answer came from, for readers with connections of their own; absent while nobody knows. */
  address(): Promise<Entrance | undefined>;
}

/** What a presigned address answers when its time is over (400: S3 with session keys, GCS V4): ask the user's URL for a new one. */
const EXPIRED = new Set([400, 401, 403, 404, 410]);

/**
 * A redirect's target that fails is asked again for so many first pauses. A redirector may lead to another mirror each time,
 * which has the same bytes under another ETag: going there because of one 503 would be a changed source.
 */
const PIN_PATIENCE = 8;

/**
 * What an address answers to a signature or token that it does not take, or no longer: S3 says 400 to an expired session token
 * and to a signature for another region, 301 without a Location to a bucket that is elsewhere.
 */
const REFUSED = new Set([301, 400, 401, 403]);

/**
 * By what a mirror says that it has not got the file, or will not give it. The next one that a redirector names may be in step,
 * so the redirector is asked again, at once, up to so many times in all.
 */
const NOT_HERE = new Set([403, 404, 410]);
const MOST_MIRRORS = 3;

/** Where the bytes were found last: at the source's own address, or where it redirected to. */
type Way = 'home' | URL;

/**
 * Pins the address that redirects led to, so that all ranges come from one mirror, and resolves anew from the user's URL when
 * the pinned one cannot be reached or refuses. A target's refusal after an earlier success is never final, only the origin's;
 * before one it is where another target refuses too, or where no other is named.
 */
export function createRoute(given: Session, succeededBefore: boolean): Route {
  /** The entrance of before: it tells where home is, for which no token need be good any more. */
  let home: Entrance | undefined;
  const session: Session = {
    ...given,
    entrance: async (refusal) => (home = await given.entrance(refusal)),
  };
  let pinned: Way | undefined;
  let succeeded = succeededBefore;
  /** Since when the pinned target only fails. */
  let failingSince: number | undefined;

  async function send(way: Way | undefined, own: Readonly<Record<string, string>>): Promise<Answer> {
    if (!way) return await entered(own);
    const { url, headers } = await addressOf(way);
    const isTarget = way !== 'home';
    const request = { url, headers: { ...headers, ...own }, isTarget };
    const answer = await requestOnce(session, request).catch((error: unknown) => {
      if (!isTarget || failureTypeOf(error) !== 'SourceCertificateInvalid') throw error;
      session.notice('redirect target cannot prove who it is any more: resolving the source again');
      return undefined;
    });
    if (!answer) return await entered(own, way);
    const astray = answer.status >= 300 && answer.status < 400;
    const expired = way !== 'home' && EXPIRED.has(answer.status);
    if (!astray && !expired && !isRefused(answer))
      return isTarget && home
        ? { ...answer, target: way, redirected: redirectTarget(session, home, way) }
        : answer;
    if (astray || expired) {
      discard(answer);
      session.notice(`redirect target answered ${statusText(answer.status)}: resolving the source again`);
    } else await renew(answer);
    return await entered(own, way);
  }

  /**
   * Begins at the source's own address, which is asked again while it names mirrors that have not got the file, and each time
   * another one. `before` is where it led to earlier.
   */
  async function entered(own: Readonly<Record<string, string>>, before?: Way): Promise<Answer> {
    const refusing = new Set(before instanceof URL ? [before.href] : []);
    for (let asked = 1; ; asked += 1) {
      const answer = await admitted(own).catch((error: unknown) => {
        const failed = passingOver(error, asked < MOST_MIRRORS ? refusing : undefined);
        refusing.add(failed.href);
        session.notice('redirect target cannot prove who it is: asking for another one');
        return undefined;
      });
      if (!answer) continue;
      const { target, status } = answer;
      if (!target || asked === MOST_MIRRORS || refusing.has(target.href) || !NOT_HERE.has(status))
        return answer;
      if (target.origin === home?.url.origin) return answer;
      refusing.add(target.href);
      discard(answer);
      session.notice(`redirect target answered ${statusText(status)}: asking for another one`);
    }
  }

  /**
   * The mirror that an error is the fault of, if another one is to be asked for. The first answer of all is not looked for where a
   * redirect leaves TLS: that is how the source is set up.
   *
   * @param tried absent where nobody else is to be asked
   * @throws the error; once the transfer has run it is no final one
   */
  function passingOver(error: unknown, tried: ReadonlySet<string> | undefined): URL {
    const target = failedTarget(error);
    if (!target || !(error instanceof Error) || target.origin === home?.url.origin) throw error;
    const leavesTls = failureTypeOf(error) === 'SourceNotAllowed';
    if (tried && !tried.has(target.href) && (succeeded || !leavesTls)) return target;
    throw succeeded ? transientFailure('SourceUnavailable', error.message) : error;
  }

  /** The answer at the source's own address or behind its redirects; a signature or token that was refused is renewed once. */
  async function admitted(own: Readonly<Record<string, string>>): Promise<Answer> {
    const answer = await resolveFromOrigin(session, own, isRefused);
    if (!isRefused(answer)) return answer;
    await renew(answer);
    return await resolveFromOrigin(session, own);
  }

  /** Another entrance, by what the answer says. */
  async function renew(answer: Answer): Promise<void> {
    const { status, headers } = answer;
    try {
      await session.entrance({ status, headers, beginning: () => beginningOf(answer, session) });
    } finally {
      discard(answer);
    }
  }

  function isRefused({ status, target, headers }: Answer): boolean {
    return session.renewable && !target && (REFUSED.has(status) || isInAnotherRegion(status, headers));
  }

  async function addressOf(way: Way): Promise<Entrance> {
    // a way that is elsewhere gets no token: none is asked for, whose server may be away
    if (way !== 'home' && home && way.origin !== home.url.origin) return { url: way, headers: {} };
    const entrance = await session.entrance();
    if (way === 'home') return entrance;
    // a redirect within the origin leads to what wants the same token
    return { url: way, headers: way.origin === entrance.url.origin ? entrance.headers : {} };
  }

  function judge(answer: Answer, ask: Ask): Answer {
    const { status } = answer;
    if (status === 200 || status === 206 || (status === 416 && ask.range)) {
      succeeded = true;
      return answer;
    }
    // where signatures and tokens are renewed, a 400 is about them
    if (ask.probing && NO_RANGES.has(status) && !(session.renewable && status === 400)) return answer;
    discard(answer);
    const failure = statusFailure(answer, session.display);
    if (!succeeded || !answer.target || !EXPIRED.has(status)) throw failure;
    throw transientFailure('SourceUnavailable', failure.message);
  }

  async function open(ask: Ask): Promise<Answer> {
    const way = pinned;
    try {
      const answer = judge(await send(way, ownHeaders(ask)), ask);
      pinned = answer.target ?? 'home';
      failingSince = undefined;
      return answer;
    } catch (error) {
      // another reader may have found a new way meanwhile: only the one that failed is forgotten
      if (pinned === way && !isWorthAsking(way, error)) pinned = undefined;
      throw error;
    }
  }

  function isWorthAsking(way: Way | undefined, error: unknown): boolean {
    if (!(way instanceof URL) || failureTypeOf(error) !== 'SourceUnavailable') return false;
    failingSince ??= performance.now();
    if (performance.now() - failingSince < PIN_PATIENCE * session.backoffMs) return true;
    failingSince = undefined;
    return false;
  }

  async function address(): Promise<Entrance | undefined> {
    const way = pinned;
    return way && (await addressOf(way));
  }

  return { open, address };
}

/** S3's redirect to another region's host, where the signature, which is over the host, is worth nothing. */
function isInAnotherRegion(status: number, headers: IncomingHttpHeaders): boolean {
  return status >= 300 && status < 400 && headers['x-amz-bucket-region'] !== undefined;
}

function ownHeaders({ range, ifRange }: Ask): Record<string, string> {
  if (!range) return {};
  return { range: rangeHeader(range), ...(ifRange === undefined ? {} : { 'if-range': ifRange }) };
}
