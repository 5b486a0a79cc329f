import { fstatSync } from 'node:fs';
import { transientFailure, permanentFailure, failureTypeOf } from '../failures.js';
import type { ImageFacts, TransferProgress, TransferResult } from '../types.js';
import { createCheckpoints } from './checkpoints.js';
import { planImage } from './probe.js';
import { createMeter, type Meter } from './meter.js';
import { readImage } from './read-image.js';
import { prove, type Durable, type RecordStore, type ResumeRecord } from './resume-record.js';
import { largerPvcRequired, type TargetSize } from './size.js';
import { RangesLostError, type ImageSource, type SourceFacts } from './source/types.js';
import { runTool } from './tools.js';
import { createSparseWriter, type SparseWriter, type TargetFile } from './writer.js';

/** Versions of a source that one transfer follows before it gives up. */
const MAX_CHANGES = 3;

/** One attempt to fill a target from a source. */
export interface ConvertJob {
  readonly source: ImageSource;
  readonly target: TargetFile;
  /** `usableBytes` is the size that the disk gets. */
  readonly size: TargetSize;
  readonly preallocation: boolean;
  /** `algorithm:hex` of the source as served. */
  readonly checksum?: string;
  readonly records: RecordStore;
  /** This attempt's fencing number; greater than that of any earlier one. */
  readonly fence: number;
  /** Temporal attempt, for progress. */
  readonly attempt: number;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: TransferProgress) => void;
  /** Set by tests: how often a record is written. */
  readonly checkpointEvery?: { readonly everyBytes?: number; readonly everyMs?: number };
}

/**
 * Reads the whole image into the target, from where the resume record says or from the start, verifies it and makes it
 * durable. May be killed at any moment and called again.
 * @throws {@link FailureType} every type of source and image, `LargerPVCRequired`, `ScratchSpaceRequired`, `NoSpace`
 */
export async function convertImage(job: ConvertJob): Promise<TransferResult> {
  const found = await job.records.load();
  if (found.result && fstatSync(job.target.fd).size === found.result.diskBytes) return found.result;
  const { result: _, ...rest } = found;
  const record: ResumeRecord = { ...rest, fence: job.fence, barren: found.barren + 1 };
  await job.records.save(record);
  const meter = createMeter(job, record);
  try {
    const facts = await job.source.probe();
    return await attempt(job, record, facts, meter);
  } catch (error) {
    throw await settle(job, meter, error);
  } finally {
    meter.stop();
  }
}

async function attempt(
  job: ConvertJob,
  record: ResumeRecord,
  facts: SourceFacts,
  meter: Meter,
): Promise<TransferResult> {
  const image = await planImage(facts, job.source, {
    checksum: job.checksum !== undefined,
    target: job.size,
  });
  const writer = createSparseWriter(job.target, job.signal);
  const { durable, changes } = await openTarget(job, record, image, writer, meter);
  const checkpoints = createCheckpoints({
    ...job.checkpointEvery,
    records: job.records,
    writer,
    source: job.source,
    record: { ...record, changes },
    durable,
  });
  meter.begin(image, writer, durable, checkpoints);
  try {
    const read = await readImage({ job, image, facts, writer, durable, checkpoints, meter });
    return await finish(job, checkpoints.record, { image, writer, durable, meter }, read);
  } catch (error) {
    if (error instanceof RangesLostError && facts.ranges) {
      meter.say('the server no longer answers ranges: reading from the start in one pass');
      const fresh = { ...withoutDurable(checkpoints.record), bytesRead: record.bytesRead };
      return attempt(job, fresh, { ...facts, ranges: false }, meter);
    }
    if (failureTypeOf(error) === 'ChecksumMismatch')
      await empty(job, writer, checkpoints.record).catch(() => undefined);
    // told to stop: what is written need not be fetched again, if there is time to say so
    if (job.signal.aborted) await checkpoints.flush().catch(() => undefined);
    throw error;
  }
}

/** Proves what an earlier attempt left, or empties the target; then gives it its size. */
async function openTarget(
  job: ConvertJob,
  record: ResumeRecord,
  image: ImageFacts,
  writer: SparseWriter,
  meter: Meter,
): Promise<{ durable: Durable; changes: number }> {
  const diskBytes = job.size.usableBytes;
  const proof = prove(record, image, diskBytes);
  if (proof && 'durable' in proof && fstatSync(job.target.fd).size === diskBytes) {
    meter.say(resumeMessage(image, proof.durable));
    return { durable: proof.durable, changes: record.changes };
  }
  const changed = proof && 'mismatch' in proof && proof.mismatch === 'the source has changed';
  const changes = record.changes + (changed ? 1 : 0);
  if (changed && changes >= MAX_CHANGES) throw changedTooOften(changes);
  if (proof)
    meter.say(
      `starting from zero: ${'mismatch' in proof ? proof.mismatch : 'the target is not what the record describes'}`,
    );
  await resize(job, writer, diskBytes);
  const { validators, format, compression, plan, virtualSize } = image;
  const durable: Durable = {
    validators,
    format,
    compression,
    plan,
    diskBytes,
    completed: 0,
    bytesWritten: 0,
    ...(virtualSize === undefined ? {} : { virtualSize }),
  };
  await job.records.save({ ...withoutDurable(record), changes, durable });
  return { durable, changes };
}

function resumeMessage({ resume, reason }: ImageFacts, { completed }: Durable): string {
  if (completed === 0) return 'starting from zero: nothing was durable yet';
  if (resume === 'exact') return `resuming at offset ${completed}`;
  return `reading the source again from its start, what is durable up to offset ${completed} is not written again: ${reason}`;
}

async function resize(job: ConvertJob, writer: SparseWriter, diskBytes: number): Promise<void> {
  await writer.truncate(0);
  await writer.truncate(diskBytes);
  if (!job.preallocation || diskBytes === 0) return;
  try {
    await runTool('fallocate', ['--length', `${diskBytes}`, '/proc/self/fd/3'], {
      fds: [job.target.fd],
      signal: job.signal,
    });
  } catch (error) {
    job.signal.throwIfAborted();
    throw transientFailure(
      'NoSpace',
      `${diskBytes} bytes cannot be preallocated for claim ${job.size.claimName}`,
      { cause: error },
    );
  }
}

interface Written {
  readonly image: ImageFacts;
  readonly writer: SparseWriter;
  readonly durable: Durable;
  readonly meter: Meter;
}

/** All bytes are in the file: make them and then the record durable. */
async function finish(
  job: ConvertJob,
  record: ResumeRecord,
  { image, writer, durable, meter }: Written,
  read: { virtualSize: number; checksum?: string },
): Promise<TransferResult> {
  if (read.virtualSize > job.size.usableBytes)
    throw largerPvcRequired(`${read.virtualSize}`, read.virtualSize, job.size);
  meter.enter('syncing');
  await writer.syncAll();
  const result: TransferResult = {
    virtualSize: read.virtualSize,
    diskBytes: job.size.usableBytes,
    bytesTransferred: meter.bytesRead(),
    bytesWritten: durable.bytesWritten + writer.bytesWritten,
    ...(read.checksum === undefined ? {} : { checksum: read.checksum }),
    resumedFrom: durable.completed,
    format: image.format,
  };
  await job.records.save({ ...record, barren: 0, bytesRead: result.bytesTransferred, result });
  return result;
}

/** Notes what the failed attempt fetched; of a source that changed nothing counts, and the third time it is not followed any more. */
async function settle(job: ConvertJob, meter: Meter, error: unknown): Promise<unknown> {
  const record = { ...(await job.records.load()), bytesRead: meter.bytesRead() };
  if (record.fence !== job.fence) return error;
  const changed = failureTypeOf(error) === 'SourceChanged';
  const changes = record.changes + (changed ? 1 : 0);
  // a disk that is full now is no reason to hide why the attempt failed
  await job.records.save(changed ? { ...withoutDurable(record), changes } : record).catch(() => undefined);
  return changed && changes >= MAX_CHANGES ? changedTooOften(changes, error) : error;
}

async function empty(job: ConvertJob, writer: SparseWriter, record: ResumeRecord): Promise<void> {
  await writer.truncate(0);
  await writer.syncAll();
  await job.records.save(withoutDurable(record));
}

function changedTooOften(changes: number, cause?: unknown): Error {
  return permanentFailure(
    'SourceChanged',
    `source changed ${changes} times during the transfer: its content is not stable`,
    cause,
  );
}

function withoutDurable({ durable: _, ...record }: ResumeRecord): ResumeRecord {
  return record;
}
