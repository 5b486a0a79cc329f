import type { RangeReader } from '../range-reader.js';
import type { Route } from '../route.js';
import type { Session } from '../session.js';
import type { Entrance, SourceFacts } from '../types.js';
import { connect, type Connection, type Ending } from './connection.js';
import type { RangeJob } from './range-job.js';

/** More connections take bandwidth from other readers of the server without being faster (`performance.md` §11). */
const CONNECTIONS = 2;
/** Requests under way on one connection, by number and by bytes: enough to keep it busy, little to lose with it. */
const DEPTH = { requests: 32, bytes: 8 * 1024 * 1024 };
/** Part of either that must be done before more is asked for: one write for several requests costs the server and us a third. */
const REFILL = 3 / 4;
/** A second connection is worth it when the first has so much to do. */
const WORTH_ANOTHER = 256 * 1024;
/** Broken connections under one job, and odd answers in a row, after which the patient reader takes over. */
const PATIENCE = 3;

/** A range reader that can be ended. */
export interface PipelinedRanges extends RangeReader {
  close(): void;
}

/**
 * Reads ranges with many requests under way on two connections. It only knows the good case: what is answered otherwise, or on
 * no connection at all, is read by `patient`, which knows redirects, refusals, back-off and when to give up.
 */
export function createPipelinedRanges(session: Session, route: Route, patient: RangeReader): PipelinedRanges {
  const queue: RangeJob[] = [];
  const connections = new Set<Connection>();
  let depth = DEPTH.requests;
  let oddInARow = 0;
  /** Where the odd answers came from: another address deserves another try. */
  let oddAddress = '';
  /** Connections that were closed after their first answer, with more asked of them. */
  let lonely = 0;
  /** One where the server refused a second connection, or kept it waiting, while it served the first: some allow a client no more. */
  let most = CONNECTIONS;
  /** Jobs that the patient reader has. */
  let handed = 0;
  let lastHanded: Promise<void> = Promise.resolve();
  let opening = false;
  let pumping = false;
  let facts: SourceFacts | undefined;

  async function readInto(now: SourceFacts, start: number, target: Uint8Array): Promise<void> {
    session.signal.throwIfAborted();
    if (target.length === 0) return;
    facts = now;
    const known = await straightAddress();
    if (known && known.url.href !== oddAddress) oddInARow = 0;
    const address = oddInARow < PATIENCE ? known : undefined;
    if (!address) return await patient.readInto(now, start, target);
    await new Promise<void>((resolve, reject) => {
      queue.push({ start, target, filled: 0, broken: 0, resolve, reject });
      pumpTogether();
    });
  }

  /**
   * Through a proxy no socket of ours is connected: that is the patient reader's. So is a token that cannot be had at the moment,
   * which it asks for again.
   */
  async function straightAddress(): Promise<Entrance | undefined> {
    const address = await route.address().catch(() => undefined);
    return address && !session.agents.isProxied(address.url) ? address : undefined;
  }

  /** The ranges of a window are asked for one after another: once all have come, they go out in one write. */
  function pumpTogether(): void {
    if (pumping) return;
    pumping = true;
    queueMicrotask(() => {
      pumping = false;
      pump();
    });
  }

  function pump(): void {
    if (session.signal.aborted) return rejectAll();
    if (oddInARow >= PATIENCE) for (const job of queue.splice(0)) void handOver(job);
    while (queue.length > 0) {
      const free = freest();
      if (!free || (free.outstandingBytes >= WORTH_ANOTHER && connections.size < most)) void open();
      if (!free) return;
      const jobs = takeFor(free);
      if (jobs.length === 0) return;
      free.ask(jobs);
    }
  }

  function freest(): Connection | undefined {
    let found: Connection | undefined;
    for (const connection of connections)
      if (!found || connection.outstandingBytes < found.outstandingBytes) found = connection;
    return found;
  }

  /** The next jobs that a connection has room for; one at least, if it has nothing to do. */
  function takeFor(connection: Connection): RangeJob[] {
    const jobs: RangeJob[] = [];
    let { outstanding, outstandingBytes } = connection;
    if (outstanding > depth * REFILL || outstandingBytes > DEPTH.bytes * REFILL) return jobs;
    for (let next = queue[0]; next; next = queue[0]) {
      const length = next.target.length - next.filled;
      if (outstanding > 0 && (outstanding >= depth || outstandingBytes + length > DEPTH.bytes)) break;
      queue.shift();
      jobs.push(next);
      outstanding += 1;
      outstandingBytes += length;
    }
    return jobs;
  }

  async function open(): Promise<void> {
    // where one is all that is allowed, the patient reader's is it
    if (opening || connections.size >= most || (most === 1 && handed > 0)) return;
    opening = true;
    const address = await straightAddress();
    opening = false;
    if (address && facts && !session.signal.aborted) {
      // what the probe has left open may be the only one
      session.agents.closeIdle();
      connections.add(connectTo(address, facts));
      pump();
    }
    // nobody knows the way now, and nobody is on it: the patient reader finds it
    if (connections.size === 0) for (const job of queue.splice(0)) void handOver(job);
  }

  function connectTo(address: Entrance, facts: SourceFacts): Connection {
    const connection = connect({
      session,
      facts,
      address,
      isAnother: connections.size > 0,
      onAnswered(rest) {
        oddInARow = 0;
        session.progress.delivered = true;
        if (rest) queue.unshift(rest);
        pump();
      },
      onEnded(ending) {
        connections.delete(connection);
        if (ending.odd) oddAddress = address.url.href;
        recover(ending);
      },
    });
    return connection;
  }

  /** What a connection left unanswered is asked again; the first of it, which may be to blame, by the patient reader. */
  function recover(ending: Ending): void {
    const { unanswered, odd, answered, why } = ending;
    if (session.signal.aborted) return rejectAll(unanswered);
    if (why !== undefined && unanswered.length > 0) session.notice(`reconnecting: ${why} (attempt 2)`);
    if (answered > 0) oddInARow = 0;
    // another one is served: what this one was asked is asked there
    if (answered === 0 && connections.size > 0) {
      most = 1;
      queue.unshift(...unanswered);
      return pump();
    }
    if (odd) oddInARow += 1;
    if (!keepsPipeline(ending)) depth = 1;
    const [first, ...rest] = unanswered;
    queue.unshift(...rest);
    if (first) {
      first.broken += 1;
      if (odd || answered === 0 || first.broken >= PATIENCE) void handOver(first);
      else queue.unshift(first);
    }
    pump();
  }

  /**
   * False once the server should be asked one by one, which every server can do: after one stall, since each costs seconds, or two
   * connections that were closed behind their first answer, since one may be by chance.
   */
  function keepsPipeline({ unanswered, odd, forgetful, answered }: Ending): boolean {
    if (!forgetful && !odd && answered === 1 && unanswered.length > 1) lonely += 1;
    return !forgetful && lonely < 2;
  }

  async function handOver(job: RangeJob): Promise<void> {
    handed += 1;
    lastHanded = most === 1 ? lastHanded.then(() => readPatiently(job)) : readPatiently(job);
    await lastHanded;
    handed -= 1;
    pump();
  }

  /** On a connection that has not answered oddly before. */
  async function readPatiently(job: RangeJob): Promise<void> {
    session.agents.closeIdle();
    try {
      if (facts) await patient.readInto(facts, job.start + job.filled, job.target.subarray(job.filled));
      job.resolve();
    } catch (error) {
      job.reject(error);
    }
  }

  function rejectAll(jobs: readonly RangeJob[] = []): void {
    for (const job of [...jobs, ...queue.splice(0)]) job.reject(session.signal.reason);
  }

  function close(): void {
    for (const connection of [...connections]) connection.destroy();
    rejectAll();
  }
  session.signal.addEventListener('abort', close, { once: true });
  return { readInto, close };
}
