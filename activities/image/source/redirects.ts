import type { IncomingMessage } from 'node:http';
import got, { MaxRedirectsError } from 'got';
import { permanentFailure } from '../../failures.js';
import type { Answer } from './answer.js';
import { awaitHead } from './answer.js';
import { networkFailure } from './http-failures.js';
import { isHttp, withoutUserInfo } from './display-url.js';
import type { Session } from './session.js';

/** As many as CDI's client follows. */
const MAX_REDIRECTS = 10;

/**
 * Asks the URL that the user named and follows its redirects; each hop gets the headers that are meant for it. A step from
 * https down to http is followed like any other: it is another origin, so no credential goes there.
 *
 * @throws `SourceNotFound` after 10 redirects, `SourceNotAllowed` for a redirect to another scheme, and what {@link awaitHead} throws.
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
          if (!isHttp(target)) throw schemeRefused(display, target);
          options.username = '';
          options.password = '';
          options.headers = headers.for(target, own);
        },
      ],
      beforeError: [(error) => (error instanceof MaxRedirectsError ? tooManyRedirects(display) : error)],
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

function tooManyRedirects(display: string): Error {
  return permanentFailure('SourceNotFound', `GET ${display}: more than ${MAX_REDIRECTS} redirects`);
}

function schemeRefused(display: string, target: URL): Error {
  const scheme = target.protocol.slice(0, -1);
  return permanentFailure(
    'SourceNotAllowed',
    `GET ${display}: redirect to scheme ${scheme}, expected http or https`,
  );
}
