import { createBodyReader } from './body.js';
import { unavailable } from './http-failures.js';
import { ifRangeOf } from './ranges.js';
import { createReconnects } from './reconnects.js';
import type { Route } from './route.js';
import type { Session } from './session.js';
import type { SourceFacts } from './types.js';
import { RangesLostError } from './types.js';
import { verifyAnswer } from './versions.js';

/** More connections take bandwidth from other readers of the server without being faster (`performance.md` §11). */
const CONNECTIONS = 2;

/** Reads exact ranges on up to two kept-alive connections. */
export interface RangeReader {
  /** See `ImageSource.readInto`. */
  readInto(facts: SourceFacts, start: number, target: Uint8Array): Promise<void>;
}

/** Makes the range reader of one source. */
export function createRangeReader(session: Session, route: Route): RangeReader {
  const permits = createPermits(CONNECTIONS);

  async function readInto(facts: SourceFacts, start: number, target: Uint8Array): Promise<void> {
    const reconnects = createReconnects(session);
    let filled = 0;
    while (filled < target.length) {
      try {
        await fill(facts, start + filled, target.subarray(filled), (bytes) => {
          filled += bytes;
          reconnects.progressed();
        });
      } catch (error) {
        await reconnects.pause(error);
      }
    }
  }

  async function fill(
    facts: SourceFacts,
    start: number,
    target: Uint8Array,
    progressed: (bytes: number) => void,
  ): Promise<void> {
    const range = { start, end: start + target.length };
    const ifRange = ifRangeOf(facts.validators);
    const answer = await route.open({ range, ...(ifRange ? { ifRange } : {}) });
    verifyAnswer(session, facts, answer, range);
    const reader = createBodyReader(answer.body, session);
    if (answer.status === 200) {
      reader.close();
      throw new RangesLostError(`GET ${session.display}: server answers 200 to ranges, no longer 206`);
    }
    let filled = 0;
    // read to the end of the body and not only of the range: the connection is used again
    for (let chunk = await reader.next(); chunk; chunk = await reader.next()) {
      if (filled + chunk.length > target.length) {
        reader.close();
        throw unavailable(session.display, `body is longer than its range of ${target.length} bytes`);
      }
      target.set(chunk, filled);
      filled += chunk.length;
      progressed(chunk.length);
    }
    if (filled === target.length) return;
    throw unavailable(session.display, `body of a range of ${target.length} bytes has ${filled}`);
  }

  return {
    readInto: (facts, start, target) => permits.run(session.signal, () => readInto(facts, start, target)),
  };
}

interface Permits {
  run<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T>;
}

/** Waiting here and not in the agent's queue: there, time would count as the server's silence. */
function createPermits(count: number): Permits {
  const waiting: (() => void)[] = [];
  let free = count;
  return {
    async run(signal, work) {
      if (free > 0) free -= 1;
      else await new Promise<void>((resolve) => waiting.push(resolve));
      try {
        signal.throwIfAborted();
        return await work();
      } finally {
        const next = waiting.shift();
        if (next) next();
        else free += 1;
      }
    },
  };
}
