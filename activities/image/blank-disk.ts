import { Context } from '@temporalio/activity';
import { failureTypeOf, permanentFailure } from '../failures.js';
import type { Owner } from '../node/directories.js';
import { memoryIn } from '../node/pool-memory.js';
import { STATE_DIRECTORY } from '../node/volume-state.js';
import type { BlankActivities, BlankDiskInput } from '../types/blank.js';
import type { TransferProgress, TransferResult } from '../types.js';
import { asFailure, countBarren, startHeart, withRetry, type Heart } from './attempt.js';
import { blockDeviceSize } from './block-device.js';
import { preallocate } from './preallocate.js';
import { openReservedTarget } from './reserved-target.js';
import { createRecordStore, type ResumeRecord } from './resume-record.js';
import { openTransferTarget, type TransferTarget } from './transfer-target.js';
import { createSparseWriter } from './writer.js';

/** A device that must write its zeros takes seconds for so many bytes: often enough for progress, a record and a cancel. */
const PIECE = 1024 ** 3;

/** What blank disks are made with. */
export interface BlankDependencies {
  /** Owns disks; absent: the worker's own user. */
  readonly transferUser?: Owner | undefined;
  /** Where the resume records of volumes lie that are in no pool. @default '/var/lib/dvflow' */
  readonly stateDirectory?: string | undefined;
  /** Told how many bytes more of a device were made zero. */
  readonly observe?: ((bytes: number) => void) | undefined;
}

/** One attempt under way. */
interface Attempt {
  readonly input: BlankDiskInput;
  readonly target: TransferTarget;
  /** As the attempt before has left it, under this attempt's fencing number. */
  readonly record: ResumeRecord;
  readonly heart: Heart;
}

/** The making of blank disks on one node. */
export function createBlankActivities({
  transferUser,
  stateDirectory = STATE_DIRECTORY,
  observe,
}: BlankDependencies): BlankActivities {
  async function createBlankDisk(input: BlankDiskInput): Promise<TransferResult> {
    const { cancellationSignal: signal } = Context.current();
    using heart = startHeart();
    let barren = heart.barren + 1;
    try {
      await using target = await openTarget(input);
      const found = await target.readRecord();
      const fence = found.fence + 1;
      try {
        return await make({ input, target, record: { ...found, fence }, heart });
      } catch (error) {
        if (!signal.aborted)
          barren = await countBarren(target, { fence, fallback: barren, owner: transferUser });
        throw error;
      }
    } catch (error) {
      signal.throwIfAborted();
      heart.count(barren);
      throw withRetry(asFailure(error, input.target.node), barren);
    }
  }

  async function openTarget({ target, preallocation }: BlankDiskInput): Promise<TransferTarget> {
    const options = { owner: transferUser, memory: memoryIn(stateDirectory) };
    if (!('volume' in target)) return await openTransferTarget(target, options);
    const untouched = target.volumeMode === 'Block' && !preallocation;
    return await openReservedTarget(target, { ...options, stateDirectory, untouched });
  }

  async function make(attempt: Attempt): Promise<TransferResult> {
    const { input, target, record } = attempt;
    const device = await isDevice(target);
    const finished = record.result;
    const { preallocation } = input;
    const asAsked = (record.preallocated ?? false) === preallocation;
    if (finished && asAsked && (device || (await isWhole(target, finished, input.usableBytes))))
      return finished;
    const result = await (device ? makeDevice(attempt) : makeFile(attempt));
    await save(attempt, { ...withoutResult(record), barren: 0, result, preallocated: preallocation });
    return result;
  }

  async function makeFile({ input, target }: Attempt): Promise<TransferResult> {
    const file = fileOf(target);
    const writer = createSparseWriter(
      { fd: file.fd, directoryFd: target.directory.fd },
      Context.current().cancellationSignal,
    );
    await writer.reset(input.usableBytes, true).catch((error: unknown) => {
      throw failureTypeOf(error) === 'LargerPVCRequired' ? tooLarge(input, error) : error;
    });
    if (input.preallocation) await allocate(input, target);
    await writer.syncAll();
    return resultOf(input.usableBytes, 0);
  }

  async function allocate({ claim, target: { node }, usableBytes }: BlankDiskInput, target: TransferTarget) {
    await preallocate({
      fd: fileOf(target).fd,
      bytes: usableBytes,
      what: `claim ${claim.namespace}/${claim.name} on node ${node}`,
      signal: Context.current().cancellationSignal,
      user: transferUser,
    });
  }

  async function makeDevice(attempt: Attempt): Promise<TransferResult> {
    const { input, target, record, heart } = attempt;
    const { fd } = fileOf(target);
    const deviceBytes = blockDeviceSize(fd);
    if (!input.preallocation) return resultOf(deviceBytes, 0);
    const writer = createSparseWriter({ fd, deviceBytes }, Context.current().cancellationSignal, observe);
    const startedAt = performance.now();
    const from = record.durable?.diskBytes === deviceBytes ? record.durable.completed : 0;
    for (let at = from; at < deviceBytes;) {
      const end = Math.min(at + PIECE, deviceBytes);
      await writer.zero(at, end);
      await writer.syncData();
      at = end;
      await save(attempt, { ...withoutResult(record), barren: 0, durable: durableAt(at, deviceBytes) });
      heart.beat(progressOf({ at, deviceBytes, rate: rateOf(at - from, startedAt) }));
    }
    await writer.syncAll();
    return { ...resultOf(deviceBytes, deviceBytes), resumedFrom: from };
  }

  async function save({ target }: Attempt, record: ResumeRecord): Promise<void> {
    await createRecordStore(`/proc/self/fd/${target.state.fd}`, transferUser).save(record);
  }

  return { createBlankDisk };
}

function tooLarge({ claim, target, usableBytes }: BlankDiskInput, cause: unknown): Error {
  return permanentFailure(
    'IncompatiblePVC',
    `the file system of claim ${claim.namespace}/${claim.name} on node ${target.node} holds no file of ${usableBytes} bytes`,
    cause,
  );
}

function fileOf({ file }: TransferTarget): NonNullable<TransferTarget['file']> {
  if (file === undefined) throw new Error('a disk has no file to be in');
  return file;
}

async function isDevice(target: TransferTarget): Promise<boolean> {
  return (await fileOf(target).stat()).isBlockDevice();
}

/** Whether the file is the finished disk, of the size that is asked for now. */
async function isWhole(
  target: TransferTarget,
  { diskBytes }: TransferResult,
  bytes: number,
): Promise<boolean> {
  return diskBytes === bytes && (await fileOf(target).stat()).size === bytes;
}

function resultOf(bytes: number, bytesWritten: number): TransferResult {
  return {
    virtualSize: bytes,
    diskBytes: bytes,
    bytesTransferred: 0,
    bytesWritten,
    resumedFrom: 0,
    attempts: Context.current().info.attempt,
    format: 'raw',
  };
}

function withoutResult({ result: _, ...record }: ResumeRecord): ResumeRecord {
  return record;
}

/** Zeros have no source that could be another one at the next attempt. */
function durableAt(completed: number, diskBytes: number): NonNullable<ResumeRecord['durable']> {
  return {
    validators: {},
    format: 'raw',
    containers: [],
    plan: 'one-pass',
    diskBytes,
    completed,
    bytesWritten: completed,
  };
}

function progressOf({
  at,
  deviceBytes,
  rate,
}: {
  at: number;
  deviceBytes: number;
  rate: number;
}): TransferProgress {
  const { attempt } = Context.current().info;
  const fraction = Math.min(at / deviceBytes, 0.9999);
  return { phase: 'transferring', bytesRead: 0, bytesWritten: at, fraction, rate, attempt, barren: 0 };
}

function rateOf(bytes: number, startedAt: number): number {
  const seconds = (performance.now() - startedAt) / 1000;
  return seconds > 0 ? Math.round(bytes / seconds) : 0;
}
