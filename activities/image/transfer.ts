import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { failureTypeOf, permanentFailure, transientFailure } from '../failures.js';
import type { TransferActivities } from '../interfaces.js';
import type { Owner } from '../node/directories.js';
import { STATE_DIRECTORY } from '../node/volume-state.js';
import type {
  ImageFacts,
  TransferInput,
  TransferProgress,
  TransferResult,
  TransientFailureType,
} from '../types.js';
import { runChild } from './child-process.js';
import { noSpaceOr } from './no-space.js';
import { createRecordStore, type ResumeRecord } from './resume-record.js';
import { openScratch, type OpenScratch } from './transfer-scratch.js';
import type { AddressPolicy, SourceRequest } from './source/types.js';
import { openReservedTarget } from './reserved-target.js';
import { openTransferTarget, type TransferTarget } from './transfer-target.js';
import { nameUnforeseen } from './unforeseen.js';

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
  /** S3 sources without a Secret may use this worker's own AWS credentials. @default false */
  readonly ambientCredentials?: boolean | undefined;
  /** Owns disks and runs the child; absent: the worker's own user. */
  readonly transferUser?: Owner | undefined;
  /** Where the resume records of volumes lie that are in no pool. @default '/var/lib/dvflow' */
  readonly stateDirectory?: string | undefined;
  /** The child's program. @default `child` beside `child-process.ts` */
  readonly childPath?: string | undefined;
  /** Told of each attempt, as its bytes move. */
  readonly observe?: TransferObserver | undefined;
}

/** Bytes that a transfer has moved, all attempts together. */
export type MovedBytes = Pick<TransferProgress, 'bytesRead' | 'bytesWritten'>;

/** Is told that an attempt begins, and what was moved `before`; what it returns is told what has moved by now. */
export type TransferObserver = (image: ImageFacts, before: MovedBytes) => (now: MovedBytes) => void;

/** The byte moving of one node. */
export function createTransferActivities(dependencies: TransferDependencies): TransferActivities {
  const { transferUser, stateDirectory = STATE_DIRECTORY } = dependencies;

  async function openTarget({ target, contentType }: TransferInput): Promise<TransferTarget> {
    const options = { owner: transferUser, contentType };
    return 'volume' in target
      ? await openReservedTarget(target, { ...options, stateDirectory })
      : await openTransferTarget(target, options);
  }

  async function transferImage(input: TransferInput): Promise<TransferResult> {
    const { cancellationSignal: signal } = Context.current();
    using heart = startHeart();
    // where no record can be read or written, the heartbeats of earlier attempts know the count
    let barren = heart.barren + 1;
    try {
      await using target = await openTarget(input);
      await using scratch = await openScratch(input.scratch);
      const record = await target.readRecord();
      const { fence } = record;
      const moved = dependencies.observe?.(input.image, movedBefore(record));
      try {
        const result = await move(input, { target, scratch }, fence + 1, (progress) => {
          heart.beat(progress);
          // What earlier attempts wrote is not known before the child has read the record.
          if (progress.phase !== 'starting') moved?.(progress);
        });
        moved?.({ bytesRead: result.bytesTransferred, bytesWritten: result.bytesWritten });
        return result;
      } catch (error) {
        if (!signal.aborted) barren = await countBarren(target, fence + 1, barren);
        throw error;
      }
    } catch (error) {
      signal.throwIfAborted();
      heart.count(barren);
      throw withRetry(asFailure(error, input), barren);
    }
  }

  async function move(
    input: TransferInput,
    { target, scratch }: { target: TransferTarget; scratch: OpenScratch | undefined },
    fence: number,
    onProgress: (progress: TransferProgress) => void,
  ): Promise<TransferResult> {
    const { cancellationSignal: signal, info } = Context.current();
    const result = await runChild({
      job: {
        request: await readRequest(input),
        policy: dependencies.policy,
        contentType: input.contentType ?? 'kubevirt',
        claimName: `${input.claim.namespace}/${input.claim.name}`,
        usableBytes: input.usableBytes,
        preallocation: input.preallocation,
        fence,
        attempt: info.attempt,
        ...(scratch ? { scratchRoom: scratch.room } : {}),
      },
      fds: { ...descriptors(target), ...(scratch ? { scratch: scratch.directory.fd } : {}) },
      user: transferUser,
      path: dependencies.childPath,
      signal,
      onProgress,
    });
    return { ...result, attempts: info.attempt };
  }

  async function readRequest({ target }: TransferInput): Promise<SourceRequest> {
    const request = await dependencies.readRequest(target.dataVolume.uid);
    if (request.kind === 's3' && request.ambient && !dependencies.ambientCredentials)
      throw permanentFailure(
        'SourceForbidden',
        `node ${target.node} does not lend its AWS credentials, the control worker does: set DVFLOW_AMBIENT_CREDENTIALS on both`,
      );
    return request;
  }

  /** Attempts in a row that made nothing durable; one whose child never came to its record is entered for it. */
  async function countBarren(target: TransferTarget, fence: number, fallback: number): Promise<number> {
    const record = await target.readRecord();
    if (record.fence >= fence) return record.barren;
    const barren = record.barren + 1;
    const records = createRecordStore(`/proc/self/fd/${target.state.fd}`, transferUser);
    return await records.save({ ...record, fence, barren }).then(
      () => barren,
      () => fallback,
    );
  }
  return { transferImage };
}

function movedBefore({ bytesRead, durable, result }: ResumeRecord): MovedBytes {
  return { bytesRead, bytesWritten: result?.bytesWritten ?? durable?.bytesWritten ?? 0 };
}

function descriptors({
  file,
  direct,
  directory,
  state,
  lock,
}: TransferTarget): Parameters<typeof runChild>[0]['fds'] {
  return {
    directory: directory.fd,
    record: state.fd,
    lock: lock.fd,
    ...(file ? { file: file.fd } : {}),
    ...(direct ? { direct: direct.fd } : {}),
  };
}

/** Heartbeats of one attempt. */
interface Heart extends Disposable {
  /** Attempts in a row that made nothing durable, when this one began. */
  readonly barren: number;
  readonly beat: (progress: TransferProgress) => void;
  /** Corrects the count for the next attempt. */
  readonly count: (barren: number) => void;
}

/** Heartbeats what the child said last, so that progress moves and a cancel arrives while it is silent. */
function startHeart(): Heart {
  const context = Context.current();
  const { attempt } = context.info;
  const before = context.info.heartbeatDetails as Partial<TransferProgress> | undefined;
  const barren = before?.barren ?? 0;
  let last: TransferProgress = {
    phase: 'starting',
    bytesRead: 0,
    bytesWritten: 0,
    rate: 0,
    attempt,
    barren,
  };
  context.heartbeat(last);
  const timer = setInterval(() => context.heartbeat(last), HEARTBEAT_MS);
  return {
    barren,
    beat: (progress) => (last = progress),
    count(now) {
      last = { ...last, barren: now };
      context.heartbeat(last);
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}

/** What was not foreseen may be this node's trouble: it is tried again, and told without what it may quote. */
function asFailure(error: unknown, { target }: TransferInput): ApplicationFailure {
  const known = noSpaceOr(error);
  if (known instanceof ApplicationFailure && failureTypeOf(known)) return known;
  return transientFailure(
    'NodeUnavailable',
    `the transfer cannot start on node ${target.node}: ${nameUnforeseen(error)}`,
  );
}

/** Gives a transient failure its delay by the attempts in a row that made nothing durable, and makes the tenth final. */
function withRetry(failure: ApplicationFailure, barren: number): ApplicationFailure {
  const { message } = failure;
  const nextRetryDelay: unknown = failure.nextRetryDelay;
  const type = failureTypeOf(failure) ?? 'NodeUnavailable';
  if (failure.nonRetryable) return failure;
  // an API server that is away says nothing about the source or the target
  if (barren >= MAX_BARREN && type !== 'KubernetesUnavailable')
    return permanentFailure(
      type,
      `${message} (attempt ${barren} in a row without progress: given up)`,
      failure,
    );
  // a source that asks for more time gets it
  const asked = typeof nextRetryDelay === 'number' ? nextRetryDelay : 0;
  const backOff = Math.min(LONGEST_DELAY_MS, 1000 * 2 ** Math.max(0, barren - 1));
  return transientFailure(type as TransientFailureType, message, {
    cause: failure,
    nextRetryDelayMs: Math.max(asked, backOff),
  });
}
