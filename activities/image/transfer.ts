import { Context } from '@temporalio/activity';
import { isAway, permanentFailure } from '../failures.js';
import type { TransferActivities } from '../interfaces.js';
import type { Owner } from '../node/directories.js';
import { memoryIn } from '../node/pool-memory.js';
import { STATE_DIRECTORY } from '../node/volume-state.js';
import type { ImageFacts, TransferInput, TransferProgress, TransferResult } from '../types.js';
import { asFailure, countBarren, countUnrecorded, startHeart, withRetry } from './attempt.js';
import { runChild } from './child-process.js';
import { openVolume } from './clone/open-volume.js';
import type { ResumeRecord } from './resume-record.js';
import { openScratch, type OpenScratch } from './transfer-scratch.js';
import type { AddressPolicy, SourceRequest } from './source/types.js';
import { openReservedTarget } from './reserved-target.js';
import { openTransferTarget, type TransferTarget } from './transfer-target.js';

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
  /** Certificates by which the data ports of other nodes are reached, for clones. */
  readonly tlsDirectory?: string | undefined;
  /** Told of each attempt, as its bytes move. */
  readonly observe?: TransferObserver | undefined;
}

/** Bytes that a transfer has moved, all attempts together, and those that this one has made zero. */
export type MovedBytes = Pick<TransferProgress, 'bytesRead' | 'bytesWritten' | 'bytesZeroed'>;

/** Is told that an attempt begins, and what was moved `before`; what it returns is told what has moved by now. */
export type TransferObserver = (image: ImageFacts, before: MovedBytes) => (now: MovedBytes) => void;

/** The byte moving of one node. */
export function createTransferActivities(
  dependencies: TransferDependencies,
): Pick<TransferActivities, 'transferImage'> {
  const { transferUser, stateDirectory = STATE_DIRECTORY } = dependencies;

  async function openTarget({ target, contentType }: TransferInput): Promise<TransferTarget> {
    const options = { owner: transferUser, memory: memoryIn(stateDirectory), contentType };
    return 'volume' in target
      ? await openReservedTarget(target, { ...options, stateDirectory })
      : await openTransferTarget(target, options);
  }

  async function transferImage(input: TransferInput): Promise<TransferResult> {
    const { cancellationSignal: signal } = Context.current();
    using heart = startHeart();
    let counted: number | undefined;
    try {
      await using target = await openTarget(input);
      await using scratch = await openScratch(input.scratch);
      const record = await target.readRecord();
      const { fence } = record;
      const before = movedBefore(record);
      const moved = dependencies.observe?.(input.image, before);
      try {
        const result = await move(input, { target, scratch }, fence + 1, (progress) => {
          heart.beat(progress);
          moved?.(movedBy(progress, before));
        });
        moved?.({ bytesRead: result.bytesTransferred, bytesWritten: result.bytesWritten });
        return result;
      } catch (error) {
        if (!signal.aborted)
          counted = await countBarren(target, {
            fence: fence + 1,
            fallback: countUnrecorded(heart.barren, error),
            owner: transferUser,
            counts: !isAway(error),
          });
        throw error;
      }
    } catch (error) {
      signal.throwIfAborted();
      const barren = counted ?? countUnrecorded(heart.barren, error);
      heart.count(barren);
      throw withRetry(asFailure(error, input.target.node), barren);
    }
  }

  async function move(
    input: TransferInput,
    { target, scratch }: { target: TransferTarget; scratch: OpenScratch | undefined },
    fence: number,
    onProgress: (progress: TransferProgress) => void,
  ): Promise<TransferResult> {
    const { cancellationSignal: signal, info } = Context.current();
    await using volume =
      input.clone &&
      (await openVolume(input.clone, {
        tlsDirectory: dependencies.tlsDirectory,
        tree: input.contentType === 'archive',
        memory: memoryIn(stateDirectory),
      }));
    const result = await runChild({
      job: {
        request: volume?.request ?? (await readRequest(input)),
        policy: dependencies.policy,
        contentType: input.contentType ?? 'kubevirt',
        claimName: `${input.claim.namespace}/${input.claim.name}`,
        usableBytes: input.usableBytes,
        preallocation: input.preallocation,
        fence,
        attempt: info.attempt,
        ...(scratch ? { scratchRoom: scratch.room } : {}),
      },
      fds: {
        ...descriptorsOf(target),
        ...(scratch ? { scratch: scratch.directory.fd } : {}),
        ...(volume?.disk ? { volume: volume.disk.fd } : {}),
      },
      user: transferUser,
      path: dependencies.childPath,
      signal,
      onProgress,
    });
    return { ...result, attempts: info.attempt };
  }

  async function readRequest({ target, image }: TransferInput): Promise<SourceRequest> {
    const request = await dependencies.readRequest(target.dataVolume.uid);
    if (request.kind === 's3' && request.ambient && !dependencies.ambientCredentials)
      throw permanentFailure(
        'SourceForbidden',
        `node ${target.node} does not lend its AWS credentials, the control worker does: set DVFLOW_AMBIENT_CREDENTIALS on both`,
      );
    return asInspected(request, image);
  }
  return { transferImage };
}

/** The same image that was inspected, on a machine of whatever architecture; histories of before do not say which one it was. */
function asInspected(request: SourceRequest, { architecture }: ImageFacts): SourceRequest {
  if (request.kind !== 'registry' || architecture === undefined) return request;
  return { ...request, defaultArchitecture: architecture };
}

/** Bytes that earlier attempts have moved. */
export function movedBefore({ bytesRead, durable, result }: ResumeRecord): MovedBytes {
  return { bytesRead, bytesWritten: result?.bytesWritten ?? durable?.bytesWritten ?? 0 };
}

/** Bytes that have moved by now. What earlier attempts wrote is not known before the child has read the record. */
export function movedBy(progress: TransferProgress, before: MovedBytes): MovedBytes {
  const { phase, bytesZeroed = 0 } = progress;
  return phase === 'starting' ? { ...before, bytesZeroed } : progress;
}

/** Descriptors of an open target, as a child gets them. */
export function descriptorsOf({
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
