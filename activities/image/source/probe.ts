import { failureTypeOf, permanentFailure } from '../../failures.js';
import { discard } from './answer.js';
import type { Answer } from './answer.js';
import type { BodyReader } from './body.js';
import { createBodyReader } from './body.js';
import { unreadableCoding } from './content-coding.js';
import { changed, unavailable } from './http-failures.js';
import { contentLength, differenceBetween, endsByClose, exactRange, unsatisfiedTotal } from './ranges.js';
import type { RangeReader } from './range-reader.js';
import type { Route } from './route.js';
import type { Session } from './session.js';
import type { SourceFacts } from './types.js';
import type { SourceValidators } from '../../types.js';

/** Bytes that the probe asks for: enough for every header that decides a plan. */
const HEAD_BYTES = 1024 * 1024;

/** What the probe learnt, and what it has in hand. */
export interface Probed {
  readonly facts: SourceFacts;
  /** Body of a 200, read as far as `received`: the stream from 0 goes on with it, so that nothing is read twice. */
  readonly rest?: BodyReader;
  /** All bytes read so far, `facts.head` and what came in the same chunk after it. */
  readonly received: readonly Buffer[];
}

/** What a probe is made with. */
export interface ProbeParts {
  readonly session: Session;
  readonly route: Route;
  readonly ranges: RangeReader;
}

/**
 * Asks for the first MiB by range. An exact 206 proves that ranges work; 200 is a server without them; what else may be said
 * because of the range (a 416 for a source that is not empty, 400, 501, another range than asked, several parts, no total) is asked
 * again without one.
 *
 * @throws what {@link Route} throws; `SourceChanged` when it is not the `expected` version.
 */
export async function probeSource(
  parts: ProbeParts,
  expected: SourceValidators | undefined,
): Promise<Probed> {
  const { session, route } = parts;
  const answer = await route.open({ range: { start: 0, end: HEAD_BYTES }, probing: true });
  const probed =
    (await probedByRange(parts, answer)) ?? (await probedWhole(session, await wholeAnswer(route, answer)));
  const difference = expected && differenceBetween(expected, probed.facts.validators);
  if (difference === undefined) return probed;
  probed.rest?.close();
  throw changed(session.display, difference);
}

/** {@link probeSource} by a request for the whole source, whose answer stays open for the stream. */
export async function probeWhole({ session, route }: ProbeParts): Promise<Probed> {
  return await probedWhole(session, await route.open({}));
}

async function probedByRange(parts: ProbeParts, answer: Answer): Promise<Probed | undefined> {
  const { session } = parts;
  const { status, headers } = answer;
  if (status === 416 && unsatisfiedTotal(headers) === 0) {
    discard(answer);
    return known(session, { ranges: false, validators: session.validatorsOf(headers, 0) }, []);
  }
  const range = status === 206 ? exactRange(headers) : undefined;
  if (range?.start !== 0 || range.end !== Math.min(HEAD_BYTES, range.total)) return undefined;
  requireReadable(session, answer);
  const facts = { ranges: true, validators: session.validatorsOf(headers, range.total) };
  return known(session, facts, await rangedHead(parts, answer, facts, range.end));
}

/** The body of the first range; what a lost connection leaves out is asked for like any other range. */
async function rangedHead(
  { session, ranges }: ProbeParts,
  answer: Answer,
  facts: Pick<SourceFacts, 'ranges' | 'validators'>,
  length: number,
): Promise<readonly Buffer[]> {
  const reader = createBodyReader(answer.body, session);
  const chunks: Buffer[] = [];
  try {
    await readHead(reader, length + 1, chunks);
  } catch (error) {
    if (failureTypeOf(error) !== 'SourceUnavailable') throw error;
  }
  const got = lengthOf(chunks);
  if (got > length) {
    reader.close();
    throw unavailable(session.display, `body of a range of ${length} bytes is longer`);
  }
  if (got === length) return chunks;
  const missing = Buffer.alloc(length - got);
  session.notice(`reconnecting: body ended after ${got} of ${length} bytes (attempt 2)`);
  await ranges.readInto(known(session, facts, []).facts, got, missing);
  return [...chunks, missing];
}

async function wholeAnswer(route: Route, answer: Answer): Promise<Answer> {
  if (answer.status === 200) return answer;
  discard(answer);
  return route.open({});
}

async function probedWhole(session: Session, answer: Answer): Promise<Probed> {
  const { status, headers, body } = answer;
  requireReadable(session, answer);
  if (status !== 200) {
    discard(answer);
    throw unavailable(session.display, `answered ${status} to a request without range`);
  }
  const length = contentLength(headers);
  const reader = createBodyReader(body, session);
  const chunks: Buffer[] = [];
  const ended = await readHead(reader, HEAD_BYTES + 1, chunks);
  const got = lengthOf(chunks);
  if (ended && length !== undefined && got < length) {
    throw unavailable(session.display, `body ended after ${got} of ${length} bytes`);
  }
  const validators = session.validatorsOf(headers, ended ? got : length);
  const open = endsByClose(headers) ? { endUnproved: true } : {};
  const probed = known(session, { ranges: false, validators, ...open }, chunks);
  return ended ? probed : { ...probed, rest: reader };
}

function known(
  session: Session,
  facts: Pick<SourceFacts, 'ranges' | 'validators' | 'endUnproved'>,
  received: readonly Buffer[],
): Probed {
  const head = Buffer.concat(received).subarray(0, HEAD_BYTES);
  return { facts: { displayUrl: session.display, ...facts, seekable: facts.ranges, head }, received };
}

/** Reads until `wanted` bytes are there, or to the end of the body: then it answers true. */
async function readHead(reader: BodyReader, wanted: number, chunks: Buffer[]): Promise<boolean> {
  while (lengthOf(chunks) < wanted) {
    const chunk = await reader.next();
    if (!chunk) return true;
    chunks.push(chunk);
  }
  return false;
}

function lengthOf(chunks: readonly Buffer[]): number {
  return chunks.reduce((sum, chunk) => sum + chunk.length, 0);
}

function requireReadable(session: Session, answer: Answer): void {
  const coding = unreadableCoding(answer.headers);
  if (coding === undefined) return;
  discard(answer);
  throw permanentFailure(
    'UnsupportedFormat',
    `GET ${session.display}: server sends content encoding ${coding}, although asked for identity`,
  );
}
