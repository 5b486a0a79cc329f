/** An answer, or why there is none: a doctor goes on where one question is refused. */
export type Reading<T> =
  | { readonly value: T; readonly refused?: never }
  | {
      readonly value?: never;
      readonly refused: string;
      /** `notFound`: the API server has no such kind or object; `forbidden`: the caller may not ask. */
      readonly kind: 'notFound' | 'forbidden' | 'other';
    };

/** How long one question may take, in ms: somebody waits at a prompt. */
const PATIENCE_MS = 10_000;

/** Asks once, and takes a refusal for an answer. */
export async function read<T>(question: () => Promise<T>, patienceMs = PATIENCE_MS): Promise<Reading<T>> {
  const patience = AbortSignal.timeout(patienceMs);
  const late = new Promise<never>((_resolve, reject) => {
    patience.addEventListener('abort', () => reject(new Error(`no answer within ${patienceMs / 1000} s`)));
  });
  try {
    return { value: await Promise.race([question(), late]) };
  } catch (error) {
    return refusalOf(error);
  }
}

/** Makes something of an answer; a refusal stays one. */
export function map<T, U>(reading: Reading<T>, change: (value: T) => U): Reading<U> {
  return reading.refused === undefined ? { value: change(reading.value) } : reading;
}

/** Kubernetes' code is HTTP's, Temporal's is gRPC's: 5 NOT_FOUND, 7 PERMISSION_DENIED. */
function refusalOf(error: unknown): Reading<never> {
  const { code, body } = error as { code?: unknown; body?: unknown };
  const kind = {
    404: 'notFound',
    5: 'notFound',
    403: 'forbidden',
    401: 'forbidden',
    7: 'forbidden',
  } as const;
  const refused = messageOf(body) ?? (error instanceof Error ? causes(error) : String(error));
  return { refused, kind: kind[code as keyof typeof kind] ?? 'other' };
}

function causes(error: Error): string {
  const cause = error.cause instanceof Error && error.cause.message ? `: ${error.cause.message}` : '';
  return `${error.message.split('\n')[0] ?? ''}${cause}`;
}

function messageOf(body: unknown): string | undefined {
  try {
    return ((typeof body === 'string' ? JSON.parse(body) : body) as { message?: string } | undefined)
      ?.message;
  } catch {
    return undefined;
  }
}
