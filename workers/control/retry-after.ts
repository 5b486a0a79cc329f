/** `Retry-After` of a watch: client-node throws away the headers of what is refused, undici tells them to who subscribes. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';

const CHANNEL = 'undici:request:headers';

/** What undici tells when the head of an answer has come. */
interface HeadersMessage {
  readonly request: { readonly path: string };
  readonly response: { readonly headers: readonly Uint8Array[] };
}

/** Listens until it is disposed of. */
export interface RetryAfterListener extends Disposable {
  /** Pause that the server asked for, in ms; `undefined` where it asked for none. */
  ms(): number | undefined;
}

/** Listens for the answer to a watch of `path` with this query; one of another list-watch to the same request tells the same. */
export function listenForRetryAfter(
  path: string,
  query: Readonly<Record<string, string | number | boolean>>,
): RetryAfterListener {
  let found: number | undefined;
  const hear = (message: unknown): void => {
    const { request, response } = message as HeadersMessage;
    const asked = new URL(request.path, 'http://server');
    if (!asked.pathname.endsWith(path)) return;
    if (Object.entries(query).some(([key, value]) => asked.searchParams.get(key) !== String(value))) return;
    found = retryAfterMs(response.headers);
  };
  subscribe(CHANNEL, hear);
  return { ms: () => found, [Symbol.dispose]: () => unsubscribe(CHANNEL, hear) };
}

/** The API server says it in seconds; a date, as proxies may write, is not worth a pause of an unknown clock. */
function retryAfterMs(headers: readonly Uint8Array[]): number | undefined {
  const text = headers.map((each) => Buffer.from(each).toString('latin1'));
  const name = text.findIndex((each, n) => n % 2 === 0 && each.toLowerCase() === 'retry-after');
  const value = name < 0 ? undefined : text[name + 1];
  return value !== undefined && /^\d{1,9}$/.test(value) ? Number(value) * 1000 : undefined;
}
