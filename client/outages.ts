import { setTimeout as sleep } from 'node:timers/promises';
import { isGrpcServiceError, isRetryableError, ServiceError, type Client } from '@temporalio/client';

/** Time between two tries while Temporal does not answer, in ms. */
const AGAIN_MS = 1_000;

/** Status codes of gRPC. */
const CANCELLED = 1;
const DEADLINE_EXCEEDED = 4;
const UNAVAILABLE = 14;

/** What a caller set for its calls, by `withDeadline` and `withAbortSignal` of its client. */
interface Bounds {
  readonly deadline?: number | Date;
  readonly abortSignal?: AbortSignal;
}

/**
 * Waits for the end of a run through every outage of Temporal: the run is durable, so that an outage says nothing of its end.
 * A refusal ends the wait, and so does a bound of the caller's own: `withDeadline` or `withAbortSignal` of its client.
 * @param onOutage told once, at the first call that was not answered
 * @throws what `ask` throws, unless Temporal did not answer; what the caller's own bound ended is known by `isGrpcCancelledError` and
 *   `isGrpcDeadlineError`, as for any call
 */
export async function outlastOutages<T>(
  client: Client,
  ask: () => Promise<T>,
  onOutage?: () => void,
): Promise<T> {
  const bounds = boundsOf(client);
  for (let told = false; ; told = true) {
    try {
      return await unlessAborted(bounds.abortSignal, ask);
    } catch (error) {
      if (!isPassing(error, bounds)) throw error;
    }
    if (!told) onOutage?.();
    // an abort is told of by the next try
    await sleep(AGAIN_MS, undefined, bounds.abortSignal ? { signal: bounds.abortSignal } : {}).catch(
      () => undefined,
    );
  }
}

/** Whether a call was not answered because Temporal, or the way to it, is away. */
export function isAway(error: unknown): boolean {
  const code: number | undefined = grpcStatusOf(error)?.code;
  return code === UNAVAILABLE;
}

/** What another try may cure: what Temporal's own client tries again for a while, and a deadline that is not the caller's. */
function isPassing(error: unknown, { deadline }: Bounds): boolean {
  const status = grpcStatusOf(error);
  if (!status) return false;
  const code: number = status.code;
  return code === DEADLINE_EXCEEDED ? deadline === undefined : isRetryableError(status);
}

function grpcStatusOf(error: unknown) {
  const cause = error instanceof ServiceError ? error.cause : error;
  return isGrpcServiceError(cause) ? cause : undefined;
}

function boundsOf({ connection }: Client): Bounds {
  // Both of Temporal's connections have it; a stand-in for one need not.
  const { callContextStorage } = connection as { callContextStorage?: { getStore(): Bounds | undefined } };
  return callContextStorage?.getStore() ?? {};
}

/** Temporal's client forgets an abort between two of its own tries, and one that came before the call. */
async function unlessAborted<T>(signal: AbortSignal | undefined, ask: () => Promise<T>): Promise<T> {
  if (!signal) return await ask();
  if (signal.aborted) throw cancelled();
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => reject(cancelled());
  signal.addEventListener('abort', abort);
  try {
    return await Promise.race([ask(), promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** As gRPC reports a call that its caller has ended. */
function cancelled(): ServiceError {
  const details = 'Cancelled on client';
  const cause = Object.assign(new Error(`${CANCELLED} CANCELLED: ${details}`), {
    code: CANCELLED,
    details,
    metadata: {},
  });
  return new ServiceError('The wait for the end of the run was aborted', { cause });
}
