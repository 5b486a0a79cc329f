import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { transientFailure } from '../../failures.js';
import type { SourceAgents } from './agents.js';
import { endAsRequest } from './answer.js';
import { withoutUserInfo } from './display-url.js';
import { connectionFailure } from './http-failures.js';
import { http, https } from './node-http.js';

/** Answers beside the bytes of a source, such as tokens and metadata, are this long at most. */
const LARGEST_ANSWER = 256 * 1024;

/** A request for something small. */
export interface SmallRequest {
  readonly url: URL;
  /** @default GET */
  readonly method?: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Address for messages. */
  readonly display: string;
}

/** What such requests are made with. */
export interface SmallRequestMeans {
  readonly agents: SourceAgents;
  readonly signal: AbortSignal;
  /** From the first moment to the last byte of the answer. */
  readonly timeoutMs: number;
}

/** An answer, whatever its status. */
export interface SmallAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

/**
 * Sends one request that is no part of a source's body, over the guarded connections of the source. Redirects are not followed:
 * what goes out here is an assertion or a token, which is for the asked server only.
 *
 * @throws `SourceUnavailable`, `SourceCertificateInvalid`, `SourceNotAllowed`, or the signal's reason.
 */
export async function requestSmall(
  { agents, signal, timeoutMs }: SmallRequestMeans,
  asked: SmallRequest,
): Promise<SmallAnswer> {
  const { method = 'GET', headers, body = '', display } = asked;
  const late = AbortSignal.timeout(timeoutMs);
  const url = withoutUserInfo(asked.url);
  const agent = agents.for(url);
  const options = {
    method,
    headers: { 'user-agent': 'dvflow', ...headers },
    signal: AbortSignal.any([signal, late]),
  };
  const request =
    url.protocol === 'https:'
      ? https().request(url, { ...options, agent: agent.https })
      : http.request(url, { ...options, agent: agent.http });
  try {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request.once('response', resolve).on('error', reject).end(body);
    });
    endAsRequest(request, response);
    const { statusCode: status = 0, headers: answered } = response;
    return { status, headers: answered, text: await textOf(response, display) };
  } catch (error) {
    signal.throwIfAborted();
    const doing = `${method} ${display}`;
    if (late.aborted) throw transientFailure('SourceUnavailable', `${doing}: no answer for ${timeoutMs} ms`);
    throw connectionFailure(error, doing, 'server');
  } finally {
    request.destroy();
  }
}

async function textOf(response: IncomingMessage, display: string): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > LARGEST_ANSWER) {
      throw transientFailure('SourceUnavailable', `${display} answers more than ${LARGEST_ANSWER} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
