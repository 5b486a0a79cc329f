import { discard } from './answer.js';
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
      const range = { start: start + filled, end: start + target.length };
      try {
        for await (const chunk of bodyOf(session, route, facts, range)) {
          target.set(chunk, filled);
          filled += chunk.length;
          reconnects.progressed();
        }
      } catch (error) {
        await reconnects.pause(error);
      }
    }
  }

  return {
    readInto: (facts, start, target) => permits.run(session.signal, () => readInto(facts, start, target)),
  };
}

/** The bytes of one range or of its beginning, never more; it ends without an error only when all came that the answer promised. */
async function* bodyOf(
  session: Session,
  route: Route,
  facts: SourceFacts,
  range: { readonly start: number; readonly end: number },
): AsyncGenerator<Buffer, void, undefined> {
  const { display } = session;
  const ifRange = ifRangeOf(facts.validators);
  const answer = await route.open({ range, ...(ifRange ? { ifRange } : {}) });
  const { start, end = range.end } = verifyAnswer(session, facts, answer, range);
  if (answer.status === 200) {
    discard(answer);
    throw new RangesLostError(`GET ${display}: server answers 200 to ranges, no longer 206`);
  }
  const length = end - start;
  const reader = createBodyReader(answer.body, session);
  let got = 0;
  try {
    // read to the end of the body and not only of the range: the connection is used again
    for (let chunk = await reader.next(); chunk; chunk = await reader.next()) {
      got += chunk.length;
      if (got > length) throw unavailable(display, `body of a range of ${length} bytes is longer`);
      yield chunk;
    }
  } finally {
    reader.close();
  }
  if (got < length) throw unavailable(display, `body of a range of ${length} bytes has ${got}`);
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
