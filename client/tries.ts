import { AsyncLocalStorage } from 'node:async_hooks';
import type { Connection, ConnectionOptions, makeGrpcRetryInterceptor } from '@temporalio/client';

/** What gRPC passes a call through. */
type Interceptor = ReturnType<typeof makeGrpcRetryInterceptor>;

/** Longest time between two attempts to connect again, in ms; gRPC's own is two minutes. */
const RECONNECT_MS = 5_000;

/** How a connection is made that is closed without harm, whatever is tried by it then. */
export interface Dialling {
  readonly options: Pick<ConnectionOptions, 'tls' | 'apiKey' | 'metadata' | 'interceptors' | 'channelArgs'>;
  /** Closes a connection that was made so. */
  readonly close: (connection: Connection) => Promise<void>;
}

/** Options of one connection, with what a profile says of keys and TLS. */
export async function createDialling({
  tls,
  apiKey,
  metadata,
}: Pick<ConnectionOptions, 'tls' | 'apiKey' | 'metadata'>): Promise<Dialling> {
  let closed = false;
  return {
    options: {
      interceptors: [await createTries(() => closed)],
      channelArgs: { 'grpc.max_reconnect_backoff_ms': RECONNECT_MS },
      ...(tls === undefined ? {} : { tls }),
      ...(apiKey === undefined ? {} : { apiKey }),
      ...(metadata === undefined ? {} : { metadata }),
    },
    close: async (connection) => {
      closed = true;
      await connection.close();
    },
  };
}

const once = new AsyncLocalStorage<true>();

/** Does `work`, whose calls to Temporal are tried once each: nothing ends the timers of gRPC's own tries, so that they outlive Ctrl-C. */
export async function triedOnce<T>(work: () => Promise<T>): Promise<T> {
  return await once.run(true, work);
}

/** Tries as Temporal's client does by itself, but not what is to be tried once, and nothing after `closed`. */
async function createTries(closed: () => boolean): Promise<Interceptor> {
  const { defaultGrpcRetryOptions, makeGrpcRetryInterceptor: retriedBy } = await import('@temporalio/client');
  const usual = defaultGrpcRetryOptions();
  const retried = retriedBy(usual);
  const unretried = retriedBy({ ...usual, retryableDecider: () => false });
  return (options, call) => {
    if (once.getStore()) return unretried(options, call);
    let tries = 0;
    return retried(options, (next) => {
      tries += 1;
      // a closed channel would throw, in a timer: nobody waits for that call any longer
      return tries > 1 && closed() ? NO_CALL : call(next);
    });
  };
}

/** A call that nothing comes of. */
const NO_CALL: ReturnType<Parameters<Interceptor>[1]> = {
  start: () => undefined,
  sendMessage: () => undefined,
  sendMessageWithContext: () => undefined,
  startRead: () => undefined,
  halfClose: () => undefined,
  cancelWithStatus: () => undefined,
  getPeer: () => '',
  getAuthContext: () => null,
};
