/** Calls of the Kubernetes API while a command goes on for hours: how they end, and which of their errors pass. */
import type { ConfigurationOptions } from '@kubernetes/client-node';
import { isCertificateCode } from '../../activities/image/source/certificate-codes.js';

/** A call that takes longer is given up, in ms: an API server that is alive answers within this. */
const CALL_TIMEOUT_MS = 20_000;

/** Ends a call when `signal` does, with its reason, or when it takes too long. */
export async function endingWith(signal: AbortSignal): Promise<ConfigurationOptions> {
  const { Observable } = await import('../../activities/kubernetes/library.js');
  const passed = <T>(context: T) => new Observable(Promise.resolve(context));
  return {
    middleware: [
      {
        pre(context) {
          context.setSignal(AbortSignal.any([signal, AbortSignal.timeout(CALL_TIMEOUT_MS)]));
          return passed(context);
        },
        post: passed,
      },
    ],
    middlewareMergeStrategy: 'append',
  };
}

/** Why Kubernetes has not answered, where it may the next time; `undefined` for what lasts, and for what is no call's error. */
export function passingFault(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code } = error as { code?: unknown };
  // of a server that is overloaded, or is not ready yet
  if (typeof code === 'number' && 'body' in error)
    return code >= 500 || code === 429 ? `HTTP ${code}` : undefined;
  if (error.name === 'TimeoutError') return `nothing in ${CALL_TIMEOUT_MS / 1000} s`;
  // `fetch` reports a server that is away as a TypeError with a cause
  const { code: why } = ((error instanceof TypeError ? error.cause : error) ?? {}) as { code?: unknown };
  return typeof why === 'string' && !isCertificateCode(why) ? why : undefined;
}
