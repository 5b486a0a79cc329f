/**
 * What this gateway remembers of uploads that it has moved. Any gateway can go on without it, so that it may be lost: it saves the
 * workflow an Update for each chunk, and tells a client that comes back what became of its last byte.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { FAILURES_OF_THE_FILE } from '../../../activities/failures.js';
import { UploadError } from '../upload-failures.js';

/** Sessions that are remembered; the one that was used least recently is forgotten first. */
const MOST = 4_096;

interface Known {
  url?: string;
  verdict?: 'complete' | UploadError;
  /** Resolves when the node has judged the file, whose last byte it has. */
  judging?: Promise<void>;
}

/** Sessions of one gateway. */
export class Sessions {
  readonly #known = new Map<string, Known>();

  /** Address on a data port, as it was when the session was opened. */
  placeOf(session: string): string | undefined {
    return this.#known.get(session)?.url;
  }

  /** Remembers the address; `undefined` forgets it. */
  place(session: string, url: string | undefined): void {
    const { url: _, ...rest } = this.#known.get(session) ?? {};
    this.#set(session, url === undefined ? rest : { ...rest, url });
  }

  /** A body begins: what became of an earlier one does not count any more. */
  begin(session: string): void {
    const url = this.placeOf(session);
    this.#set(session, url === undefined ? {} : { url });
  }

  /** The last byte has been handed over. */
  judging(session: string, judged: Promise<void>): void {
    this.#set(session, { ...this.#known.get(session), judging: judged });
  }

  /** The disk is complete. */
  complete(session: string): void {
    this.#set(session, { verdict: 'complete' });
  }

  /** Keeps a failure that is the file's; any other one may be cured, and the session goes on. */
  failed(session: string, error: unknown): void {
    if (error instanceof UploadError && FAILURES_OF_THE_FILE.some((type) => type === error.type))
      this.#set(session, { verdict: error });
  }

  /**
   * What became of the session's file; waits for it while the node judges, and so long at most.
   * @throws UploadError why the file cannot be the disk; 423 while that is not known
   */
  async verdictOf(session: string, withinMs: number): Promise<'complete' | undefined> {
    const { judging } = this.#known.get(session) ?? {};
    if (judging) {
      const late = new AbortController();
      const timer = pause(withinMs, 'late' as const, { signal: late.signal }).catch(() => undefined);
      const outcome = await Promise.race([judging, timer]);
      late.abort();
      if (outcome === 'late') throw beingJudged();
    }
    const { verdict } = this.#known.get(session) ?? {};
    if (verdict instanceof UploadError) throw verdict;
    return verdict;
  }

  #set(session: string, known: Known): void {
    this.#known.delete(session);
    this.#known.set(session, known);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MOST && oldest !== undefined) this.#known.delete(oldest);
  }
}

/** The status on which clients of the protocol keep the address of their upload and come again. */
export function beingJudged(): UploadError {
  return new UploadError(423, 'every byte has come: the disk is being verified and synced');
}
