import { failureTypeOf, transientFailure } from '../../failures.js';
import { discard, requestOnce } from './answer.js';
import type { Answer } from './answer.js';
import { statusFailure, statusText } from './http-failures.js';
import type { ByteRange } from './ranges.js';
import { rangeHeader } from './ranges.js';
import { redirectTarget, resolveFromOrigin } from './redirects.js';
import type { Session } from './session.js';
import type { Entrance } from './types.js';

/** What is asked for: all of the source, or a range of it that must be of the version that `ifRange` names. */
export interface Ask {
  readonly range?: ByteRange;
  readonly ifRange?: string;
}

/** Finds the way from the user's URL to the bytes, and remembers it. */
export interface Route {
  /**
   * Sends one request; the answer is a 200, a 206 or, to a range, a 416. Its body must be read or destroyed.
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

/** Where the bytes were found last: at the source's own address, or where it redirected to. */
type Way = 'home' | URL;

/**
 * Pins the address that redirects led to, so that all ranges come from one mirror, and resolves anew from the user's URL when
 * the pinned one cannot be reached or refuses. A target's refusal after an earlier success is never final, only the origin's.
 */
export function createRoute(session: Session, succeededBefore: boolean): Route {
  let pinned: Way | undefined;
  let succeeded = succeededBefore;
  /** Since when the pinned target only fails. */
  let failingSince: number | undefined;

  async function send(way: Way | undefined, own: Readonly<Record<string, string>>): Promise<Answer> {
    if (!way) return await entered(own);
    const entrance = await session.entrance();
    const { url, headers } = addressOf(way, entrance);
    const isTarget = way !== 'home';
    const answer = await requestOnce(session, { url, headers: { ...headers, ...own }, isTarget });
    const astray = answer.status >= 300 && answer.status < 400;
    const expired = way !== 'home' && EXPIRED.has(answer.status);
    if (!astray && !expired && !isRefused(answer))
      return isTarget
        ? { ...answer, target: way, redirected: redirectTarget(session, entrance, way) }
        : answer;
    discard(answer);
    if (astray || expired)
      session.notice(`redirect target answered ${statusText(answer.status)}: resolving the source again`);
    else await session.entrance(answer);
    return await entered(own);
  }

  /** Begins at the source's own address; a signature or token that was refused there is renewed once. */
  async function entered(own: Readonly<Record<string, string>>): Promise<Answer> {
    const answer = await resolveFromOrigin(session, own);
    if (!isRefused(answer)) return answer;
    discard(answer);
    await session.entrance(answer);
    return await resolveFromOrigin(session, own);
  }

  function isRefused({ status, target }: Answer): boolean {
    return session.renewable && !target && REFUSED.has(status);
  }

  function addressOf(way: Way, entrance: Entrance): Entrance {
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
    return way && addressOf(way, await session.entrance());
  }

  return { open, address };
}

function ownHeaders({ range, ifRange }: Ask): Record<string, string> {
  if (!range) return {};
  return { range: rangeHeader(range), ...(ifRange === undefined ? {} : { 'if-range': ifRange }) };
}
