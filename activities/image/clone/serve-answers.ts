/** The answers of one volume that are under way: they read by the number of its descriptor, which is another file's once it is closed. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { answerFailure } from '../../data-port/answers.js';

/** Answers one request until the signal says that nobody waits for it any more. */
export type Answer = (
  request: IncomingMessage,
  response: ServerResponse,
  signal: AbortSignal,
) => Promise<void>;

/** A handler of the data port; disposed, it has ended every answer, and nothing is read any more. */
export interface Answers extends AsyncDisposable {
  readonly handle: (request: IncomingMessage, response: ServerResponse) => Promise<void>;
}

/** Keeps the answers under way. An answer that is ended breaks off: its reader asks again whoever serves the volume then. */
export function createAnswers(answer: Answer): Answers {
  const underway = new Map<ServerResponse, { readonly done: Promise<void>; readonly stop: () => void }>();
  let closed = false;

  return {
    async handle(request, response) {
      // found while it was open, and handed over later
      if (closed) return answerFailure(response, CLOSED);
      const stopping = new AbortController();
      const stop = (): void => stopping.abort();
      response.once('close', stop);
      const done = answer(request, response, stopping.signal);
      underway.set(response, { done, stop });
      try {
        await done;
      } finally {
        underway.delete(response);
      }
    },
    async [Symbol.asyncDispose]() {
      closed = true;
      const all = [...underway];
      for (const [response, { stop }] of all) {
        stop();
        response.destroy();
      }
      await Promise.allSettled(all.map(([, { done }]) => done));
    },
  };
}

const CLOSED = {
  type: 'NodeUnavailable',
  message: 'the volume is not served any more',
  retryable: true,
} as const;
