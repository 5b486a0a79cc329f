import type { Socket } from 'node:net';
import { codingsOf } from '../content-coding.js';
import { dial } from '../dial.js';
import { networkFailure } from '../http-failures.js';
import { contentLength, ifRangeOf, rangeHeader } from '../ranges.js';
import type { Session } from '../session.js';
import { createStallWatch } from '../stall.js';
import type { Entrance, SourceFacts } from '../types.js';
import { givenOf } from '../versions.js';
import { missingOf, type RangeJob } from './range-job.js';
import { MAX_HEAD_BYTES, parseResponseHead, type ResponseHead } from './response-head.js';

/** Offered to a read while a head is expected: what of the body comes with it is copied, so it is kept small. */
const HEAD_READ = 512;
/**
 * Part of the stall limit that the first byte of an answer may take when its request was sent ahead: 6 s of 60. A server that forgets
 * such requests never answers, and one that is only slow loses no more than the pipelining.
 */
const AHEAD_PATIENCE = 1 / 10;

/** Why a connection ended. */
export interface Ending {
  /** Jobs without a whole answer, in the order in which they were asked; the first may be partly filled. */
  readonly unanswered: readonly RangeJob[];
  /** The answer to the first of them was not what a plain range reader can take. */
  readonly odd: boolean;
  /** The server fell silent at a request that was sent ahead of the answer before it: it may not keep a pipeline. */
  readonly forgetful: boolean;
  /** What went wrong, in words; absent where the server only ended the connection after an answer. */
  readonly why?: string;
  /** Whole answers that this connection gave. */
  readonly answered: number;
}

/** One connection that keeps several requests under way. */
export interface Connection {
  readonly outstanding: number;
  readonly outstandingBytes: number;
  /** Sends the requests of these jobs in one write. */
  ask(jobs: readonly RangeJob[]): void;
  /** Ends it without a word. */
  destroy(): void;
}

/** What a connection is made with. */
export interface ConnectionParts {
  readonly session: Session;
  readonly facts: SourceFacts;
  readonly address: Entrance;
  /** Another one is served already: this one is not waited for as long. */
  readonly isAnother: boolean;
  /** An answer has come; `rest` is the job that it left unfinished, if it gave the beginning of a range only. */
  readonly onAnswered: (rest?: RangeJob) => void;
  readonly onEnded: (ending: Ending) => void;
}

/**
 * An HTTP/1.1 connection on a plain socket whose reads land in the jobs' own memory (`performance.md` §11.6). Only 206s of the
 * probed version that begin where they were asked to are taken; anything else ends the connection, and its jobs are somebody else's.
 */
export function connect({
  session,
  facts,
  address,
  isAnother,
  onAnswered,
  onEnded,
}: ConnectionParts): Connection {
  const jobs: RangeJob[] = [];
  const requestFor = createRequests(session, address, facts);
  const head = Buffer.allocUnsafeSlow(MAX_HEAD_BYTES);
  let headBytes = 0;
  let current: ResponseHead | undefined;
  /** Bytes of its body that are still to come. */
  let left = 0;
  let answered = 0;
  let bytes = 0;
  let ended = false;
  /** The first of the jobs was sent ahead of the answer before it. */
  let ahead = false;
  const watch = createStallWatch(session.stallMs, () => stalled(session.stallMs));
  const aheadMs = session.stallMs * AHEAD_PATIENCE;
  const aheadWatch = createStallWatch(aheadMs, () => stalled(aheadMs));
  const socket: Socket = dial(session.agents, address.url, { buffer: nextBuffer, callback: onRead });
  socket.setNoDelay(true);
  socket.once('error', (error) => end({ why: reasonOf(error, session) }));
  socket.once('end', lost).once('close', lost);

  /** Where the next bytes go: into the body's place, or behind what there is of a head. */
  function nextBuffer(): Uint8Array {
    const [job] = jobs;
    if (current && job) return job.target.subarray(job.filled, job.filled + left);
    return head.subarray(headBytes, Math.min(headBytes + HEAD_READ, MAX_HEAD_BYTES));
  }

  function onRead(count: number): boolean {
    watch.arm();
    aheadWatch.disarm();
    if (current) took(count);
    else headBytes += count;
    while (!ended && !current && headBytes > 0 && readHead());
    if (jobs.length === 0) watch.disarm();
    else if (ahead && !isWithin()) aheadWatch.arm();
    return true;
  }

  /** Bytes of an answer have come, but not all of it. */
  function isWithin(): boolean {
    return current !== undefined || headBytes > 0;
  }

  /** Reads one head, and what of its body came with it; false while there is none. */
  function readHead(): boolean {
    const found = parseResponseHead(head.subarray(0, headBytes));
    if (!found) return false;
    const [job] = jobs;
    const given = found === 'odd' || !job ? undefined : givenBy(found, job);
    if (found === 'odd' || !job || given === undefined) {
      end({ odd: true });
      return false;
    }
    current = found;
    left = given;
    const length = Math.min(headBytes - found.bytes, left);
    job.target.set(head.subarray(found.bytes, found.bytes + length), job.filled);
    head.copyWithin(0, found.bytes + length, headBytes);
    headBytes -= found.bytes + length;
    took(length);
    return true;
  }

  /** Bytes of a job that an answer gives, or `undefined` where it is none to take. */
  function givenBy({ status, headers }: ResponseHead, job: RangeJob): number | undefined {
    if (status !== 206 || headers['transfer-encoding'] !== undefined || codingsOf(headers).length > 0)
      return undefined;
    const given = givenOf(session, facts, headers, missingOf(job));
    const length = given && given.end - given.start;
    return contentLength(headers) === length ? length : undefined;
  }

  function took(count: number): void {
    const [job] = jobs;
    if (!job) return;
    job.filled += count;
    bytes -= count;
    left -= count;
    session.received(count);
    if (left > 0) return;
    jobs.shift();
    ahead = jobs.length > 0;
    answered += 1;
    const { closes } = current ?? { closes: true };
    current = undefined;
    const missing = job.target.length - job.filled;
    bytes -= missing;
    if (missing === 0) job.resolve();
    if (!closes) return onAnswered(missing === 0 ? undefined : job);
    if (missing > 0) jobs.unshift(job);
    end();
  }

  /** The server may end a connection between two answers, but not in the middle of one. */
  function lost(): void {
    end(isWithin() || answered === 0 ? { why: 'connection closed before the end of the body' } : {});
  }

  function stalled(limitMs: number): void {
    end({ why: `no byte for ${limitMs} ms`, forgetful: ahead });
  }

  function end(how: Partial<Omit<Ending, 'unanswered' | 'answered'>> = {}): void {
    if (ended) return;
    ended = true;
    watch.stop();
    aheadWatch.stop();
    socket.destroy();
    onEnded({ odd: false, forgetful: false, ...how, unanswered: jobs.splice(0), answered });
  }

  function ask(more: readonly RangeJob[]): void {
    if (jobs.length === 0) watch.arm();
    if (isAnother && answered === 0 && !isWithin()) aheadWatch.arm();
    jobs.push(...more);
    for (const { target, filled } of more) bytes += target.length - filled;
    socket.write(more.map(requestFor).join(''), 'latin1');
  }

  return {
    get outstanding() {
      return jobs.length;
    },
    get outstandingBytes() {
      return bytes;
    },
    ask,
    destroy: () => end(),
  };
}

function reasonOf(error: Error, { display }: Session): string {
  return networkFailure(error, display).message.replace(`GET ${display}: `, '');
}

/** Writes requests for one place: all but the range is the same in each of them. */
function createRequests(
  session: Session,
  { url, headers }: Entrance,
  facts: SourceFacts,
): (job: RangeJob) => string {
  const ifRange = ifRangeOf(facts.validators);
  const all = session.headers.for(url, {
    ...headers,
    ...(ifRange === undefined ? {} : { 'if-range': ifRange }),
  });
  const host = 'host' in all ? '' : `host: ${url.host}\r\n`;
  const lines = Object.entries(all).flatMap(([name, value]) =>
    [value].flat().map((one) => `${name}: ${one}\r\n`),
  );
  const same = `GET ${url.pathname}${url.search} HTTP/1.1\r\n${host}${lines.join('')}`;
  return (job) => `${same}range: ${rangeHeader(missingOf(job))}\r\n\r\n`;
}
