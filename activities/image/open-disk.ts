/** What an attempt begins with: the disk as an earlier one has left it, or an empty one. */
import { fstatSync } from 'node:fs';
import type { ImageFacts } from '../types.js';
import type { ConvertJob } from './convert-job.js';
import type { Meter } from './meter.js';
import type { PlannedImage } from './plan-image.js';
import { preallocate } from './preallocate.js';
import { changedTooOften } from './refusals.js';
import {
  prove,
  withoutDurable,
  type Durable,
  type ResumeRecord,
  type TargetFileFacts,
} from './resume-record.js';
import type { SparseWriter } from './writer.js';

/** Size that the target has while it is written: a disk of unknown size gets its own when it is known. */
function diskBytesOf({ size }: ConvertJob, { virtualSize = 0 }: ImageFacts): number {
  return size.fit ? virtualSize : size.usableBytes;
}

/** Whether the target still has the size that a record tells; devices do not change theirs. */
export function hasSize({ target }: ConvertJob, diskBytes: number): boolean {
  return target.deviceBytes !== undefined || fstatSync(target.fd).size === diskBytes;
}

/** What tells whether the target is the file that a record is about; `undefined` for a device. */
export function fileFacts({ target }: ConvertJob): TargetFileFacts | undefined {
  if (target.deviceBytes !== undefined) return undefined;
  const { ino: inode, size: bytes } = fstatSync(target.fd);
  return { inode, bytes };
}

/** Whether the target is the one that a record vouches for; a file that grows while it is written is at least as long. */
function isAsRecorded(job: ConvertJob, { diskBytes, file: recorded, target }: Durable): boolean {
  const { identity } = job.target;
  if (identity !== undefined && identity !== target) return false;
  const file = fileFacts(job);
  if (!file) return recorded === undefined;
  if (recorded && (file.inode !== recorded.inode || file.bytes < recorded.bytes)) return false;
  return diskBytes === 0 || file.bytes === diskBytes;
}

/** What an attempt begins with, for its records. */
interface Opened extends Pick<ResumeRecord, 'changes' | 'reached'> {
  readonly durable: Durable;
}

/**
 * Proves what an earlier attempt left, or empties the target; then gives it its size. Says which of them, and why.
 * @throws {@link FailureType} `SourceChanged` where the source has changed too often; `NoSpace`, `IncompatiblePVC` for a preallocation that cannot be
 */
export async function openDisk(
  job: ConvertJob,
  record: ResumeRecord,
  { facts: image, verified }: PlannedImage,
  { writer, meter }: { writer: SparseWriter; meter: Meter },
): Promise<Opened> {
  const diskBytes = diskBytesOf(job, image);
  const proof = prove(record, image, diskBytes);
  const left = proof && 'durable' in proof && isAsRecorded(job, proof.durable) ? proof.durable : undefined;
  // the stream is held to its digest, and not what an earlier one has left on the disk: of that nothing may stay
  const unproved = verified && image.resume === 'reread';
  if (left && !unproved) {
    meter.say(resumeMessage(image, left));
    return { durable: left, changes: record.changes };
  }
  // an attempt that ended while the target was emptied has left no more than that
  const before = left?.completed ?? (proof ? undefined : record.reached);
  const reached = before === undefined ? {} : { reached: Math.max(record.reached ?? 0, before) };
  const changed = proof && 'mismatch' in proof && proof.mismatch === 'the source has changed';
  const changes = record.changes + (changed ? 1 : 0);
  const unstable = changed && changedTooOften(changes);
  if (unstable) throw unstable;
  if (proof) meter.say(`starting from zero: ${'mismatch' in proof ? proof.mismatch : whyNotTaken(left)}`);
  // before, not after: an attempt that ends while the target is emptied would leave a record that vouches for what is gone
  await job.records.save({ ...withoutDurable(record), ...reached, changes });
  await writer.reset(job.target.deviceBytes ?? diskBytes, image.plan === 'ranged');
  await allocate(job, diskBytes);
  const { validators, format, containers, plan, virtualSize } = image;
  const file = fileFacts(job);
  const { identity } = job.target;
  const durable: Durable = {
    validators,
    format,
    containers,
    plan,
    diskBytes,
    completed: 0,
    bytesWritten: 0,
    ...(file ? { file } : {}),
    ...(identity === undefined ? {} : { target: identity }),
    ...(virtualSize === undefined ? {} : { virtualSize }),
  };
  // a record must not vouch for zeros, or for a file, that a power cut takes back
  await writer.syncAll();
  await job.records.save({ ...withoutDurable(record), ...reached, changes, durable });
  return { durable, changes, ...reached };
}

function whyNotTaken(left: Durable | undefined): string {
  if (!left) return 'the target is not what the record describes';
  if (left.completed === 0) return 'nothing was durable yet';
  return 'what an earlier attempt has written is held to no checksum';
}

function resumeMessage({ resume, reason }: ImageFacts, { completed, restart }: Durable): string {
  if (completed === 0) return 'starting from zero: nothing was durable yet';
  if (resume === 'exact') return `resuming at offset ${completed}`;
  if (restart && restart.inner > 0)
    return `resuming at offset ${restart.outer}, where the compressed stream can be entered`;
  return `reading the source again from its start, what is durable up to offset ${completed} is not written again: ${reason}`;
}

async function allocate(
  { preallocation, target, size, signal }: ConvertJob,
  diskBytes: number,
): Promise<void> {
  if (!preallocation || diskBytes === 0 || target.deviceBytes !== undefined) return;
  await preallocate({ fd: target.fd, bytes: diskBytes, what: `claim ${size.claimName}`, signal });
}
