/** Refusals in the form that clients of Kubernetes read: `metav1.Status`. */

/** Kubernetes' reasons that the gateway gives, and their HTTP statuses. */
const CODES = {
  BadRequest: 400,
  Unauthorized: 401,
  Forbidden: 403,
  NotFound: 404,
  MethodNotAllowed: 405,
  UnsupportedMediaType: 415,
  Invalid: 422,
  InternalError: 500,
  ServiceUnavailable: 503,
} as const;

/** A refusal. */
export interface ApiStatus {
  readonly code: number;
  readonly body: {
    readonly kind: 'Status';
    readonly apiVersion: 'v1';
    readonly metadata: Record<string, never>;
    readonly status: 'Failure';
    readonly message: string;
    readonly reason: keyof typeof CODES;
    readonly details?: object;
    readonly code: number;
  };
}

/** A refusal of that reason. */
export function statusOf(reason: keyof typeof CODES, message: string): ApiStatus {
  const code = CODES[reason];
  return {
    code,
    body: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code },
  };
}

/** A value that a field may not have. */
export interface InvalidField {
  /** `spec.pvcName` */
  readonly field: string;
  readonly reason: 'FieldValueInvalid' | 'FieldValueRequired';
  readonly message: string;
}

/** The refusal of an object for one of its fields, as kube-apiserver writes it. */
export function invalidStatus(
  { group, kind, name }: { readonly group: string; readonly kind: string; readonly name: string },
  cause: InvalidField,
): ApiStatus {
  const message = `${kind}.${group} ${JSON.stringify(name)} is invalid: ${cause.field}: ${cause.message}`;
  const { code, body } = statusOf('Invalid', message);
  return { code, body: { ...body, details: { name, group, kind, causes: [cause] } } };
}
