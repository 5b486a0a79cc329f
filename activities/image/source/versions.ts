import type { IncomingHttpHeaders } from 'node:http';
import { discard } from './answer.js';
import type { Answer } from './answer.js';
import { changed, contradicted, unavailable } from './http-failures.js';
import {
  contentLength,
  differenceBetween,
  exactRange,
  mayHaveSameLength,
  unsatisfiedTotal,
} from './ranges.js';
import type { ByteRange } from './ranges.js';
import type { SourceValidators } from '../../types.js';
import type { Session } from './session.js';
import type { SourceFacts } from './types.js';

/**
 * Checks a later answer against what the probe learnt: the same version, and exactly the range that was asked for. Mirrors
 * behind one name, and caches, get this wrong; an unchecked answer would put foreign bytes into a disk.
 *
 * @returns the offset of the body's first byte: the range's start, or 0 for a 200 with the whole source.
 * @throws `SourceChanged` for another version, `SourceUnavailable` for an answer that does not fit the question. The body is
 * destroyed then.
 */
export function verifyAnswer(
  session: Session,
  facts: SourceFacts,
  answer: Answer,
  asked: ByteRange | undefined,
): number {
  try {
    return verified(session, facts, answer, asked);
  } catch (error) {
    discard(answer);
    throw error;
  }
}

function verified(
  session: Session,
  facts: SourceFacts,
  answer: Answer,
  asked: ByteRange | undefined,
): number {
  const { display } = session;
  const { status, headers } = answer;
  if (status === 416) {
    const [before, now] = [facts.validators.length, unsatisfiedTotal(headers)];
    if (now !== undefined && now !== before) throw changed(display, `length was ${before}, is ${now}`);
    throw unavailable(display, 'answered 416 to a range inside of the source');
  }
  if (status === 200) {
    requireSame(session, facts, session.validatorsOf(headers, contentLength(headers)));
    return 0;
  }
  if (!asked) throw unavailable(display, `answered ${status} to a request without range`);
  const range = exactRange(headers);
  if (!range) throw unavailable(display, 'answered 206 without exactly one range of known length');
  requireSame(session, facts, session.validatorsOf(headers, range.total));
  const end = asked.end ?? range.total;
  if (range.start === asked.start && range.end === end) return range.start;
  throw unavailable(
    display,
    `answered bytes ${range.start}-${range.end - 1}, asked for ${asked.start}-${end - 1}`,
  );
}

/** Whether a 206 carries exactly the range of the probed version; its readers have no use for the reason. */
export function isSameVersion(
  session: Session,
  facts: SourceFacts,
  headers: IncomingHttpHeaders,
  asked: { readonly start: number; readonly end: number },
): boolean {
  const range = exactRange(headers);
  return (
    range?.start === asked.start &&
    range.end === asked.end &&
    differenceBetween(facts.validators, session.validatorsOf(headers, range.total)) === undefined
  );
}

function requireSame(session: Session, facts: SourceFacts, now: SourceValidators): void {
  const difference = differenceBetween(facts.validators, now);
  if (difference === undefined) return;
  throw (mayHaveSameLength(facts.validators, now) ? contradicted : changed)(session.display, difference);
}
