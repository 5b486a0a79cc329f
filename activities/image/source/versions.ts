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
 * Checks a later answer against what the probe learnt: the same version, and the range that was asked for or its beginning, which
 * is all that some servers give at once (RFC 9110 §15.3.7). Mirrors behind one name, and caches, get this wrong; an unchecked
 * answer would put foreign bytes into a disk.
 *
 * @returns what the body holds: the range that it says, or all from 0 for a 200 with the whole source.
 * @throws `SourceChanged` for another version, `SourceUnavailable` for an answer that does not fit the question. The body is
 * destroyed then.
 */
export function verifyAnswer(
  session: Session,
  facts: SourceFacts,
  answer: Answer,
  asked: ByteRange | undefined,
): ByteRange {
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
): ByteRange {
  const { display } = session;
  const { status, headers } = answer;
  if (status === 416) {
    const [before, now] = [facts.validators.length, unsatisfiedTotal(headers)];
    if (now !== undefined && now !== before) throw changed(display, `length was ${before}, is ${now}`);
    throw unavailable(display, 'answered 416 to a range inside of the source');
  }
  if (status === 200) {
    requireSame(session, facts, session.validatorsOf(headers, contentLength(headers)));
    return { start: 0 };
  }
  if (!asked) throw unavailable(display, `answered ${status} to a request without range`);
  const range = exactRange(headers);
  if (!range) throw unavailable(display, 'answered 206 without exactly one range of known length');
  requireSame(session, facts, session.validatorsOf(headers, range.total));
  const end = asked.end ?? range.total;
  if (isBeginningOf(range, { start: asked.start, end })) return range;
  throw unavailable(
    display,
    `answered bytes ${range.start}-${range.end - 1}, asked for ${asked.start}-${end - 1}`,
  );
}

/** What a 206 of the probed version gives of a range, or `undefined` where it does not fit; its readers have no use for the reason. */
export function givenOf(
  session: Session,
  facts: SourceFacts,
  headers: IncomingHttpHeaders,
  asked: BoundedRange,
): BoundedRange | undefined {
  const range = exactRange(headers);
  if (!range || !isBeginningOf(range, asked)) return undefined;
  const difference = differenceBetween(facts.validators, session.validatorsOf(headers, range.total));
  return difference === undefined ? range : undefined;
}

/** A range with a known end, which is exclusive. */
type BoundedRange = Required<ByteRange>;

/** Never empty, so that asking for the rest comes to an end. */
function isBeginningOf(given: BoundedRange, asked: BoundedRange): boolean {
  return given.start === asked.start && given.end <= asked.end;
}

function requireSame(session: Session, facts: SourceFacts, now: SourceValidators): void {
  const difference = differenceBetween(facts.validators, now);
  if (difference === undefined) return;
  throw (mayHaveSameLength(facts.validators, now) ? contradicted : changed)(session.display, difference);
}
