import type { IncomingHttpHeaders } from 'node:http';
import { discard } from '../source/answer.js';
import { createBodyReader } from '../source/body.js';
import { statusFailure, unavailable } from '../source/http-failures.js';
import { contentLength } from '../source/ranges.js';
import { persistently } from '../source/reconnects.js';
import { resolveFromOrigin } from '../source/redirects.js';
import type { Session } from '../source/session.js';
import type { Entrance, RedirectTarget } from '../source/types.js';
import { invalid } from '../refusals.js';

/** A small answer, read whole. */
export interface FetchedDocument {
  /** Content is there with 200 only. */
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly bytes: Buffer;
  /** A redirect led to another origin, which this answer is from. */
  readonly foreign: boolean;
  readonly redirected?: RedirectTarget;
}

/** What is asked for. */
export interface DocumentAsk {
  readonly entrance: Entrance;
  /** Headers that go to redirect targets too. */
  readonly own: Readonly<Record<string, string>>;
  /** A longer body is refused, in bytes. */
  readonly limit: number;
}

/**
 * Reads one small document, or learns that it takes an authorization (401); passing failures are met by further tries. The
 * entrance's headers stay at its origin.
 *
 * @throws the failures of `http-failures.ts`; {@link FailureType} `ImageInvalid` for a longer body
 */
export async function fetchDocument(session: Session, ask: DocumentAsk): Promise<FetchedDocument> {
  return await persistently(session, async () => {
    const answer = await fetchOnce(session, ask);
    if (answer.status === 200 || answer.status === 401) return answer;
    throw statusFailure(answer, session.display);
  });
}

/** One try, whatever its status. @throws where there is no answer */
export async function fetchOnce(session: Session, ask: DocumentAsk): Promise<FetchedDocument> {
  const { entrance, own, limit } = ask;
  const answer = await resolveFromOrigin({ ...session, entrance: () => Promise.resolve(entrance) }, own);
  const { status, headers, target, redirected } = answer;
  const foreign = target !== undefined && target.origin !== entrance.url.origin;
  if (status !== 200) {
    discard(answer);
    return { status, headers, bytes: Buffer.alloc(0), foreign, ...(redirected ? { redirected } : {}) };
  }
  const bytes = await readBody(session, answer.body, { limit, length: contentLength(headers) });
  return { status, headers, bytes, foreign };
}

interface Bounds {
  readonly limit: number;
  readonly length: number | undefined;
}

async function readBody(
  session: Session,
  body: Parameters<typeof createBodyReader>[0],
  { limit, length }: Bounds,
): Promise<Buffer> {
  const reader = createBodyReader(body, session);
  const chunks: Buffer[] = [];
  let got = 0;
  try {
    if (length !== undefined && length > limit) throw tooLong(session, limit);
    for (let chunk = await reader.next(); chunk; chunk = await reader.next()) {
      got += chunk.length;
      if (got > limit) throw tooLong(session, limit);
      chunks.push(chunk);
    }
  } finally {
    reader.close();
  }
  if (length !== undefined && got < length)
    throw unavailable(session.display, `body ended after ${got} of ${length} bytes`);
  return Buffer.concat(chunks, got);
}

function tooLong({ display }: Session, limit: number): Error {
  return invalid(`GET ${display}: answer is longer than ${limit} bytes`);
}
