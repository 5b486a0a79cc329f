import type { ImportFailure } from '../client/index.js';

/** What the program exits with; scripts tell by it whether another try makes sense. */
export const EXIT = {
  ok: 0,
  /** Not foreseen: a bug, or something that dvflow did not throw. */
  unknown: 1,
  /** The command line. */
  usage: 2,
  /** A failure that no retry cures (`docs/failures.md`). */
  permanent: 3,
  /** A failure that a later try may not meet. */
  transient: 4,
  /** Cancelled or terminated by a person. */
  cancelled: 5,
  /** No such DataVolume or workflow. */
  notFound: 6,
  /** Temporal or Kubernetes does not answer. */
  unreachable: 7,
} as const;

/** An error that is told to the user in its own words, with the code to exit with. */
export class CliError extends Error {
  override name = 'CliError' as const;
  readonly exitCode: number;

  constructor(message: string, exitCode: number, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

/** Exit code and message of anything that a command threw. */
export async function judge(
  error: unknown,
): Promise<{ readonly exitCode: number; readonly message: string }> {
  if (error instanceof CliError) return { exitCode: error.exitCode, message: error.message };
  if (!(error instanceof Error)) return { exitCode: EXIT.unknown, message: String(error) };
  switch (error.name) {
    case 'WorkflowFailedError':
    case 'ApplicationFailure':
      return await judgeFailure(error);
    case 'NoSuchRunError':
      return { exitCode: EXIT.notFound, message: error.message };
    case 'WorkflowExecutionAlreadyStartedError':
      return {
        exitCode: EXIT.permanent,
        message: 'ResourceExists: an import of this name is running already',
      };
    case 'ManifestError':
      return { exitCode: EXIT.usage, message: error.message };
    case 'TimeoutError':
      return await judgeTimeout(error);
    case 'TypeError':
      return judgeTypeError(error);
    default:
      return judgeCall(error);
  }
}

/** One line for a failed import: `SourceNotFound: …`. */
export function failureLine({ type, message }: ImportFailure): string {
  return `${type}: ${message}`;
}

/** Exit code for the type of a failed import. */
export async function exitCodeOf(type: string): Promise<number> {
  if (type === 'Cancelled' || type === 'Terminated') return EXIT.cancelled;
  const { FAILURE_TYPES } = await import('../activities/failures.js');
  const kind = Object.entries(FAILURE_TYPES).find(([known]) => known === type)?.[1];
  return kind === undefined ? EXIT.unknown : EXIT[kind];
}

async function judgeFailure(error: Error) {
  const { failureOf } = await import('../client/failures.js');
  const failure = failureOf(error);
  return { exitCode: await exitCodeOf(failure.type), message: failureLine(failure) };
}

/** Only calls of Kubernetes have such a limit. */
async function judgeTimeout(error: Error) {
  const { passingFault } = await import('./upload/kubernetes-calls.js');
  return { exitCode: EXIT.unreachable, message: `Kubernetes does not answer: ${passingFault(error)}` };
}

/** `fetch` reports a server that is away as a TypeError with a cause; any other one is a bug. */
function judgeTypeError(error: Error) {
  const cause = error.cause instanceof Error ? error.cause : undefined;
  if (!cause) return { exitCode: EXIT.unknown, message: error.message };
  return {
    exitCode: EXIT.unreachable,
    message: `Kubernetes does not answer: ${cause.message || nameOf(cause)}`,
  };
}

/** Errors of the two APIs, told apart by what they carry: neither exports a class that covers them all. */
function judgeCall(error: Error) {
  const { code, body } = error as { code?: unknown; body?: unknown };
  if (typeof code === 'number' && body !== undefined) {
    const message = statusMessage(body) ?? error.message;
    return {
      exitCode: code === 404 ? EXIT.notFound : code < 500 ? EXIT.permanent : EXIT.unreachable,
      message,
    };
  }
  // gRPC: 4 DEADLINE_EXCEEDED, 14 UNAVAILABLE
  const cause = error.cause as { code?: unknown } | undefined;
  const grpc = typeof code === 'number' ? code : cause?.code;
  if (grpc === 14 || grpc === 4 || typeof code === 'string') {
    return { exitCode: EXIT.unreachable, message: error.message };
  }
  return { exitCode: EXIT.unknown, message: error.message };
}

/** What a `Status` of Kubernetes says, where it is one. */
export function statusMessage(body: unknown): string | undefined {
  try {
    const status = (typeof body === 'string' ? JSON.parse(body) : body) as { message?: string };
    return status.message;
  } catch {
    return undefined;
  }
}

function nameOf(error: Error): string {
  return 'code' in error ? String(error.code) : error.name;
}
