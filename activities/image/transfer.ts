import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { failureTypeOf, permanentFailure, transientFailure } from '../failures.js';
import type { TransferActivities } from '../interfaces.js';
import type { Owner } from '../node/directories.js';
import type { TransferInput, TransferProgress, TransferResult, TransientFailureType } from '../types.js';
import { runChild } from './child-process.js';
import type { ResumeRecord } from './resume-record.js';
import type { AddressPolicy, SourceRequest } from './source/types.js';
import { openTransferTarget, type TransferTarget } from './transfer-target.js';

/** Attempts in a row without a durable byte that make a failure final (`design.md` §8). */
const MAX_BARREN = 10;
/** Heartbeats are sent this often even where the child is silent; the timeout is 10 s. */
const HEARTBEAT_MS = 500;
const LONGEST_DELAY_MS = 60_000;

/** What a transfer needs. */
export interface TransferDependencies {
  /** The request with its credentials, from the Secret `transfer-<uid>`. */
  readonly readRequest: (uid: string) => Promise<SourceRequest>;
  readonly policy: AddressPolicy;
  /** Owns disks and runs the child; absent: the worker's own user. */
  readonly transferUser?: Owner | undefined;
  /** The child's program. @default `child` beside `child-process.ts` */
  readonly childPath?: string | undefined;
}

/** The byte moving of one node. */
export function createTransferActivities(dependencies: TransferDependencies): TransferActivities {
  async function transferImage(input: TransferInput): Promise<TransferResult> {
    const { cancellationSignal: signal, info } = Context.current();
    using heart = startHeart(info.attempt);
    const request = await dependencies.readRequest(input.target.dataVolume.uid);
    await using target = await openTransferTarget(input.target, dependencies.transferUser);
    const record = await target.readRecord();
    const fence = record.fence + 1;
    try {
      const result = await runChild({
        job: {
          request,
          policy: dependencies.policy,
          claimName: `${input.claim.namespace}/${input.claim.name}`,
          usableBytes: input.usableBytes,
          preallocation: input.preallocation,
          fence,
          attempt: info.attempt,
        },
        fds: descriptors(target),
        user: dependencies.transferUser,
        path: dependencies.childPath,
        signal,
        onProgress: heart.beat,
      });
      return { ...result, attempts: info.attempt };
    } catch (error) {
      signal.throwIfAborted();
      throw withRetry(error, await target.readRecord(), fence, info.attempt);
    }
  }
  return { transferImage };
}

function descriptors({
  file,
  direct,
  directory,
  state,
  lock,
}: TransferTarget): Parameters<typeof runChild>[0]['fds'] {
  return {
    file: file.fd,
    directory: directory.fd,
    record: state.fd,
    lock: lock.fd,
    ...(direct ? { direct: direct.fd } : {}),
  };
}

/** Heartbeats what the child said last, so that progress moves and a cancel arrives while it is silent. */
function startHeart(attempt: number): Disposable & { beat: (progress: TransferProgress) => void } {
  const context = Context.current();
  let last: TransferProgress = {
    phase: 'starting',
    bytesRead: 0,
    bytesWritten: 0,
    rate: 0,
    attempt,
    barren: 0,
  };
  context.heartbeat(last);
  const timer = setInterval(() => context.heartbeat(last), HEARTBEAT_MS);
  return {
    beat: (progress) => (last = progress),
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

/** Gives a transient failure its delay by the attempts in a row that made nothing durable, and makes the tenth final. */
function withRetry(error: unknown, record: ResumeRecord, fence: number, attempt: number): unknown {
  const type = failureTypeOf(error);
  if (!(error instanceof ApplicationFailure) || !type || error.nonRetryable) return error;
  // a child that never came to its record counts too
  const barren = record.fence >= fence ? record.barren : attempt;
  if (barren >= MAX_BARREN)
    return permanentFailure(
      type,
      `${error.message} (attempt ${barren} in a row without progress: given up)`,
      error,
    );
  const nextRetryDelayMs = Math.min(LONGEST_DELAY_MS, 1000 * 2 ** Math.max(0, barren - 1));
  return transientFailure(type as TransientFailureType, error.message, { cause: error, nextRetryDelayMs });
}
