/** Answers requests for an archive's volume: all of its files as one tar, with the digest of it and the state of the files behind it. */
import { createHash } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { answerFailure } from '../../data-port/answers.js';
import type { Place } from '../../node/place.js';
import { packTree } from './pack-tree.js';
import { createAnswers, type Answers } from './serve-answers.js';
import { budget, PIECE, sendPiece, tellFailure, TRAILERS } from './serve-body.js';
import { findTreeState } from './tree-state.js';
import { formatDigest } from './volume-protocol.js';

/** A handler of the data port's resource for a directory, of which this `generation` is read. */
export function createTreeHandler(root: Place, generation: number): Answers {
  return createAnswers(async (request, response, signal) => {
    const { method } = request;
    if (method !== 'GET' && method !== 'HEAD')
      return answerFailure(
        response,
        { type: 'SourceUnavailable', message: `not served: method ${method}`, retryable: false },
        405,
      );
    const stateOf = (found: string): string => `${found}-${generation}`;
    try {
      if (method === 'GET') return await send({ root, stateOf }, response, signal);
      response.writeHead(200, { 'dvflow-state': stateOf(await look(root, signal)) }).end();
    } catch (error) {
      if (!signal.aborted) tellFailure(response, error);
    }
  });
}

async function look(root: Place, signal: AbortSignal): Promise<string> {
  const looking = findTreeState(root, signal);
  let next = await looking.next();
  while (!next.done) next = await looking.next();
  return next.value;
}

async function send(
  { root, stateOf }: { readonly root: Place; readonly stateOf: (found: string) => string },
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  const digest = createHash('sha256');
  const archive = packTree(root, { count: 0 }, signal);
  try {
    for (;;) {
      const giveBack = await budget.take(PIECE, signal);
      try {
        const next = await archive.next();
        // a tree that cannot be walked at all is refused before the answer begins
        if (!response.headersSent)
          response.writeHead(200, { 'content-type': 'application/x-tar', trailer: TRAILERS });
        if (next.done) {
          response.addTrailers({
            'content-digest': formatDigest(digest.digest('base64')),
            'dvflow-state': stateOf(next.value),
          });
          return void response.end();
        }
        if (next.value.length === 0) continue;
        digest.update(next.value);
        await sendPiece(response, next.value, signal);
      } finally {
        giveBack();
      }
    }
  } finally {
    // a reader that leaves leaves the file and the directories open that were at hand
    await archive.return('');
  }
}
