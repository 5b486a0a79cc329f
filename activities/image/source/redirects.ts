import type { IncomingMessage } from 'node:http';
import got from 'got';
import type { RequestError } from 'got';
import { permanentFailure } from '../../failures.js';
import type { Answer } from './answer.js';
import { awaitHead } from './answer.js';
import { networkFailure } from './http-failures.js';
import { withoutUserInfo } from './display-url.js';
import type { Session } from './session.js';

/** As many as CDI's client follows. */
const MAX_REDIRECTS = 10;

/**
 * Asks the URL that the user named and follows its redirects; each hop gets the headers that are meant for it. A step from
 * https down to http is followed like any other: it is another origin, so no credential goes there.
 *
 * @throws `SourceNotFound` after 10 redirects or for one to no URL, `SourceNotAllowed` for a redirect to another scheme, and what {@link awaitHead} throws.
 */
export async function resolveFromOrigin(
  session: Session,
  own: Readonly<Record<string, string>>,
): Promise<Answer> {
  const { origin, headers, agents, display } = session;
  const stream = got.stream(withoutUserInfo(origin), {
    agent: { http: agents.http, https: agents.https },
    headers: headers.for(origin, own),
    maxRedirects: MAX_REDIRECTS,
    retry: { limit: 0 },
    throwHttpErrors: false,
    decompress: false,
    hooks: {
      beforeRedirect: [
        (options) => {
          const target = options.url as URL;
          options.username = '';
          options.password = '';
          options.headers = headers.for(target, own);
        },
      ],
      beforeError: [(error) => redirectFailure(error, display)],
    },
  });
  const response = await awaitHead<IncomingMessage & { url?: string }>(session, stream, (resolve) => {
    stream.once('response', resolve);
  }).catch((error: unknown) => {
    session.signal.throwIfAborted();
    throw networkFailure(error, display);
  });
  const url = withoutUserInfo(new URL(response.url ?? origin));
  return { status: response.statusCode ?? 0, headers: response.headers, url, body: stream };
}

function redirectFailure(error: RequestError, display: string): Error {
  if (error.code === 'ERR_TOO_MANY_REDIRECTS') {
    return permanentFailure('SourceNotFound', `GET ${display}: more than ${MAX_REDIRECTS} redirects`);
  }
  if (error.code === 'ERR_UNSUPPORTED_PROTOCOL') {
    return permanentFailure(
      'SourceNotAllowed',
      `GET ${display}: redirect to a scheme that is neither http nor https`,
    );
  }
  if (error.code === 'ERR_INVALID_URL') {
    // the cause would hold the address, and with it perhaps a signature
    return permanentFailure('SourceNotFound', `GET ${display}: redirect to an address that is no URL`);
  }
  return error;
}
