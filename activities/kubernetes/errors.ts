import { ApiException } from '@kubernetes/client-node';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { permanentFailure, transientFailure } from '../failures.js';

/** Kubernetes' `Status` object, as far as it explains a refusal. */
interface ApiStatus {
  readonly message?: string;
  readonly reason?: string;
}

/**
 * Says what an error of the Kubernetes API means: an {@link ApplicationFailure} of a known type, or the error itself where it
 * already is one or is the activity's cancellation.
 */
export function kubernetesFailure(error: unknown, doing: string): Error {
  if (error instanceof ApplicationFailure || error instanceof CancelledFailure) return error;
  if (!(error instanceof ApiException)) return unavailable(doing, reasonOf(error), error);
  const status = statusOf(error);
  const message = `${doing}: ${status.message ?? `HTTP ${error.code}`}`;
  switch (error.code) {
    case 400:
    case 422:
      return permanentFailure('InvalidDataVolume', message, cause(error));
    case 403:
      return forbidden(message, error);
    case 404:
      // a Status names the object that is missing (a namespace); anything else is a path that is not served yet
      return status.reason === 'NotFound'
        ? permanentFailure('InvalidDataVolume', message, cause(error))
        : unavailable(doing, 'the API is not served (yet)', error);
    default:
      return unavailable(doing, status.message ?? `HTTP ${error.code}`, error);
  }
}

/**
 * 403 has five authors. Quota passes, also one whose use nobody has counted yet. A LimitRange speaks about the size that was asked
 * for. The authorizer (`cannot create resource`) speaks about dvflow's own rights, which an API server that has just started does
 * not know yet and an operator can add. Admission that is not ready speaks about itself, any other about this very object. They
 * differ in nothing but the text.
 */
function forbidden(message: string, error: ApiException<unknown>): ApplicationFailure {
  if (/exceeded quota|status unknown for quota/.test(message)) {
    return transientFailure('ExceededQuota', message, { cause: cause(error), nextRetryDelayMs: 10_000 });
  }
  if (/(maximum|minimum) storage usage per \S+ is /.test(message))
    return permanentFailure('InvalidDataVolume', message, cause(error));
  if (isAuthorizerDenial(error) || message.includes('not yet ready to handle request'))
    return transientFailure('KubernetesUnavailable', message, { cause: cause(error) });
  return permanentFailure('NotAuthorized', message, cause(error));
}

/** The refusal comes from RBAC, not from an admission policy. */
export function isAuthorizerDenial(error: unknown): boolean {
  return (
    error instanceof ApiException &&
    error.code === 403 &&
    / cannot \S+ resource /.test(statusOf(error).message ?? '')
  );
}

/** Nothing can be made there any more, and nobody will read it. */
export function isNamespaceGoing(error: unknown): boolean {
  return (
    error instanceof ApiException &&
    error.code === 403 &&
    / because it is being terminated$/.test(statusOf(error).message ?? '')
  );
}

/** Message of the API server's `Status`, or the error's own. */
export function serverMessage(error: unknown): string {
  return (error instanceof ApiException ? statusOf(error).message : undefined) ?? reasonOf(error);
}

function statusOf(error: ApiException<unknown>): ApiStatus {
  if (typeof error.body !== 'string') return error.body ?? {};
  try {
    return JSON.parse(error.body) as ApiStatus;
  } catch {
    // a proxy or a path that is not served answers in plain text
    return {};
  }
}

function unavailable(doing: string, reason: string, error: unknown): ApplicationFailure {
  return transientFailure('KubernetesUnavailable', `${doing}: ${reason}`, { cause: cause(error) });
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}

/** ApiException's own message repeats body and headers, which have no place in a history. */
function cause(error: unknown): Error {
  if (error instanceof ApiException) return new Error(`HTTP ${error.code}`);
  return error instanceof Error ? error : new Error(String(error));
}
