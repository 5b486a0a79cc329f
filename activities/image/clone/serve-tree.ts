/** Answers requests for an archive's volume: all of its files as one tar, with the digest of it behind it. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { answerFailure, describeFailure } from '../../data-port/answers.js';
import type { Place } from '../../node/place.js';
import { packTree } from './pack-tree.js';
import { formatDigest } from './volume-protocol.js';

/** A handler of the data port's resource `/volume/<uid>`, for a directory. */
export function createTreeHandler(
  root: Place,
): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  return async (request, response) => {
    if (request.method !== 'GET')
      return answerFailure(
        response,
        { type: 'SourceUnavailable', message: `not served: method ${request.method}`, retryable: false },
        405,
      );
    const stopping = new AbortController();
    response.once('close', () => stopping.abort());
    try {
      await send(root, response, stopping.signal);
    } catch (error) {
      if (stopping.signal.aborted) return;
      const failure = describeFailure(error);
      if (!response.headersSent) return answerFailure(response, failure);
      // the answer has begun: what went wrong is told behind it, where its digest would be
      response.addTrailers({ 'dvflow-failure': Buffer.from(JSON.stringify(failure)).toString('base64') });
      response.end();
    }
  };
}

async function send(root: Place, response: ServerResponse, signal: AbortSignal): Promise<void> {
  const digest = createHash('sha256');
  const archive = packTree(root, { count: 0 }, signal);
  // a tree that cannot be walked at all is refused before the answer begins
  const first = await archive.next();
  response.writeHead(200, { 'content-type': 'application/x-tar', trailer: 'content-digest, dvflow-failure' });
  for (let next = first; !next.done; next = await archive.next()) {
    digest.update(next.value);
    if (!response.write(next.value)) await once(response, 'drain', { signal });
  }
  response.addTrailers({ 'content-digest': formatDigest(digest.digest('base64')) });
  response.end();
}
