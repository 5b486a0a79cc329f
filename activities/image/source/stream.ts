import type { BodyReader } from './body.js';
import { createBodyReader } from './body.js';
import { changed, contradicted, unavailable } from './http-failures.js';
import type { Probed } from './probe.js';
import { ifRangeOf } from './ranges.js';
import { createReconnects } from './reconnects.js';
import type { Route } from './route.js';
import type { Session } from './session.js';
import type { SourceFacts } from './types.js';
import { verifyAnswer } from './versions.js';

/** A body and the source offset of its next byte. */
interface Positioned {
  readonly reader: BodyReader;
  position: number;
  /** Offset behind its last byte, for the body of a range. */
  readonly end?: number;
}

/** What a stream is made of. */
export interface StreamParts {
  readonly session: Session;
  readonly route: Route;
  readonly probed: Probed;
  /** Hands out the body that the probe left open, once. */
  readonly takeRest: () => BodyReader | undefined;
}

/**
 * The source from `start` to its end. What the probe has in hand is delivered first; a lost connection is replaced by one that
 * goes on at the next byte, or, where the server has no ranges, by one that reads again and drops what was delivered.
 */
export async function* streamFrom(
  parts: StreamParts,
  start: number,
): AsyncGenerator<Buffer, void, undefined> {
  const { session, probed } = parts;
  const reconnects = createReconnects(session);
  let offset = start;
  let source: Positioned | undefined;
  try {
    for (const chunk of receivedFrom(probed, start)) {
      offset += chunk.length;
      yield chunk;
    }
    source = restOf(parts);
    while (!isEnd(probed.facts, offset)) {
      try {
        source ??= await openAt(parts, offset);
        const chunk = await nextFrom(source, offset, parts);
        if (chunk) {
          reconnects.progressed();
          offset += chunk.length;
          yield chunk;
        } else if (source.end === undefined) return;
        // the server gives less at once than was asked for
        else source = undefined;
      } catch (error) {
        source?.reader.close();
        source = undefined;
        await reconnects.pause(error);
      }
    }
  } finally {
    source?.reader.close();
  }
}

function isEnd({ validators }: SourceFacts, offset: number): boolean {
  return validators.length !== undefined && offset >= validators.length;
}

function* receivedFrom({ received }: Probed, start: number): Generator<Buffer, void, undefined> {
  let position = 0;
  for (const chunk of received) {
    if (position + chunk.length > start) yield chunk.subarray(Math.max(0, start - position));
    position += chunk.length;
  }
}

function restOf({ probed, takeRest }: StreamParts): Positioned | undefined {
  const reader = takeRest();
  return reader && { reader, position: probed.received.reduce((sum, chunk) => sum + chunk.length, 0) };
}

async function openAt({ session, route, probed }: StreamParts, offset: number): Promise<Positioned> {
  const { facts } = probed;
  const range = facts.ranges ? { start: offset } : undefined;
  const ifRange = ifRangeOf(facts.validators);
  const answer = await route.open(range ? { range, ...(ifRange ? { ifRange } : {}) } : {});
  const { start: position, end } = verifyAnswer(session, facts, answer, range);
  if (position < offset) session.notice(`reading again from the start: ${offset} bytes are dropped`);
  const reader = createBodyReader(answer.body, session);
  return { reader, position, ...(end === undefined ? {} : { end }) };
}

/**
 * The next bytes at `offset`, or after the end of the body nothing; bytes before `offset` are dropped. A range whose end is not that
 * of the source has the rest behind it: that is asked for.
 */
async function nextFrom(
  source: Positioned,
  offset: number,
  { session, probed }: StreamParts,
): Promise<Buffer | undefined> {
  for (;;) {
    const chunk = await source.reader.next();
    if (!chunk) return endedAt(source, offset, probed.facts, session);
    const from = source.position;
    source.position += chunk.length;
    if (source.end !== undefined && source.position > source.end)
      throw unavailable(session.display, `body of a range that ends at ${source.end} is longer`);
    requireSameHead(chunk, from, probed.facts, session);
    if (source.position > offset) return chunk.subarray(Math.max(0, offset - from));
  }
}

function endedAt(
  { position, end }: Positioned,
  offset: number,
  facts: SourceFacts,
  session: Session,
): undefined {
  if (position === end) return;
  const { length } = facts.validators;
  if (length !== undefined) {
    throw unavailable(session.display, `body ended after ${position} of ${length} bytes`);
  }
  if (position < offset) {
    throw changed(session.display, `it ends after ${position} bytes, ${offset} were read before`);
  }
}

/** Servers without validators can only be held to the bytes themselves: those that we still have are compared. */
function requireSameHead(chunk: Buffer, from: number, { head }: SourceFacts, session: Session): void {
  if (from >= head.length) return;
  const before = head.subarray(from, from + chunk.length);
  if (!before.equals(chunk.subarray(0, before.length))) {
    throw contradicted(
      session.display,
      `bytes ${from}-${from + before.length - 1} differ from those read before`,
    );
  }
}
