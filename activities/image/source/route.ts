import { transientFailure } from '../../failures.js';
import { discard, requestOnce } from './answer.js';
import type { Answer } from './answer.js';
import { withoutUserInfo } from './display-url.js';
import { statusFailure, statusText } from './http-failures.js';
import type { ByteRange } from './ranges.js';
import { rangeHeader } from './ranges.js';
import { resolveFromOrigin } from './redirects.js';
import type { Session } from './session.js';

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
}

/** What a presigned address answers when its time is over: ask the user's URL for a new one. */
const EXPIRED = new Set([401, 403, 404, 410]);

/**
 * Pins the address that redirects led to, so that all ranges come from one mirror, and resolves anew from the user's URL when
 * the pinned one cannot be reached or refuses. A target's refusal after an earlier success is never final, only the origin's.
 */
export function createRoute(session: Session, succeededBefore: boolean): Route {
  const home = withoutUserInfo(session.origin).href;
  let pinned: URL | undefined;
  let succeeded = succeededBefore;

  async function send(target: URL | undefined, own: Readonly<Record<string, string>>): Promise<Answer> {
    if (!target) return resolveFromOrigin(session, own);
    const answer = await requestOnce(session, target, own);
    const astray = answer.status >= 300 && answer.status < 400;
    const expired = target.href !== home && EXPIRED.has(answer.status);
    if (!astray && !expired) return answer;
    discard(answer);
    session.notice(`redirect target answered ${statusText(answer.status)}: resolving the source again`);
    return resolveFromOrigin(session, own);
  }

  function judge(answer: Answer, ask: Ask): Answer {
    const { status } = answer;
    if (status === 200 || status === 206 || (status === 416 && ask.range)) {
      succeeded = true;
      return answer;
    }
    discard(answer);
    const failure = statusFailure(answer, session.display);
    if (!succeeded || answer.url.href === home || !EXPIRED.has(status)) throw failure;
    throw transientFailure('SourceUnavailable', `${failure.message} from a redirect target`);
  }

  async function open(ask: Ask): Promise<Answer> {
    const target = pinned;
    try {
      const answer = judge(await send(target, ownHeaders(ask)), ask);
      pinned = answer.url;
      return answer;
    } catch (error) {
      // another reader may have found a new way meanwhile: only the one that failed is forgotten
      if (pinned === target) pinned = undefined;
      throw error;
    }
  }

  return { open };
}

function ownHeaders({ range, ifRange }: Ask): Record<string, string> {
  if (!range) return {};
  return { range: rangeHeader(range), ...(ifRange === undefined ? {} : { 'if-range': ifRange }) };
}
