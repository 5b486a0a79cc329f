import { fstatSync } from 'node:fs';
import { permanentFailure, failureTypeOf } from '../failures.js';
import type { TransferResult } from '../types.js';
import { createCheckpoints } from './checkpoints.js';
import type { ConvertJob } from './convert-job.js';
import { enterContradiction } from './contradiction.js';
import { createMeter, type Meter } from './meter.js';
import { fileFacts, hasSize, openDisk } from './open-disk.js';
import { otherFormat } from './open-image.js';
import { planImage, type PlannedImage, type PlanOptions } from './plan-image.js';
import { readImage, type Read } from './read-image.js';
import { changedTooOften } from './refusals.js';
import { withoutDurable, type Durable, type RecordStore, type ResumeRecord } from './resume-record.js';
import { largerPvcRequired } from './size.js';
import { isContradiction } from './source/http-failures.js';
import { RangesLostError } from './source/types.js';
import { BY_RANGES_AGAIN, IN_ONE_ANSWER, RANGES_LOST, withoutRanges } from './source/without-ranges.js';
import { createSparseWriter, type SparseWriter } from './writer.js';

const READ_BACK = 4 * 1024 * 1024;
/** Disks have whole ones. */
const SECTOR_BYTES = 512;

/**
 * Reads the whole image into the target, from where the resume record says or from the start, verifies it and makes it
 * durable. May be killed at any moment and called again.
 * @throws {@link FailureType} every type of source and image, `LargerPVCRequired`, `ScratchSpaceRequired`, `NoSpace`
 */
export async function convertImage(job: ConvertJob): Promise<TransferResult> {
  const found = await job.records.load();
  if (found.result && hasSize(job, found.result.diskBytes) && (await isStill(job, found)))
    return found.result;
  const { result: _, ...rest } = found;
  const record: ResumeRecord = { ...rest, fence: job.fence, barren: found.barren + 1 };
  await job.records.save(record);
  const meter = createMeter(job, record);
  try {
    return await attempt(job, record, meter).catch(async (error: unknown) => {
      await noteContradiction(job, meter, error);
      return await attempt(job, { ...(await job.records.load()), bytesRead: record.bytesRead }, meter);
    });
  } catch (error) {
    throw await settle(job, meter, error);
  } finally {
    meter.stop();
  }
}

/** A volume may have been written to since its clone was complete; an image that was read whole is not asked for again. */
async function isStill(job: ConvertJob, { durable }: ResumeRecord): Promise<boolean> {
  if (!job.verbatim) return true;
  const { validators } = await job.source.probe();
  return validators.etag !== undefined && validators.etag === durable?.validators.etag;
}

/** How an attempt differs from the first try. */
interface Retry {
  /** The server has answered ranges and does no longer. */
  readonly rangesLost?: boolean;
}

async function attempt(
  job: ConvertJob,
  record: ResumeRecord,
  meter: Meter,
  retry: Retry = {},
): Promise<TransferResult> {
  const writer = createSparseWriter(job.target, job.signal, (bytes) => meter.zeroed(bytes));
  const whole = record.contradicted ? await planInOneAnswer(job, writer) : undefined;
  using planned = whole ?? (await planByRanges(job, writer, retry));
  if (record.contradicted) meter.say(whole ? IN_ONE_ANSWER : BY_RANGES_AGAIN);
  const { unproved } = planned.facts;
  if (unproved !== undefined) meter.say(unproved);
  // what another answer gave need not be of the same state
  const known = whole ? withoutDurable(record) : record;
  const { durable, ...counts } = await openDisk(job, known, planned, { writer, meter });
  const checkpoints = createCheckpoints({
    ...job.checkpointEvery,
    records: whole ? withoutProgress(job.records, { ...known, ...counts }) : job.records,
    writer,
    source: job.source,
    record: { ...withoutDurable(record), ...counts },
    durable,
    file: () => fileFacts(job),
  });
  meter.begin(planned.facts, {
    written: () => durable.bytesWritten + writer.bytesWritten,
    barren: () => checkpoints.record.barren,
  });
  try {
    const read = await readImage({ job, planned, writer, durable, checkpoints, meter });
    return await finish(job, checkpoints.record, { planned, writer, durable, meter }, read);
  } catch (error) {
    if (error instanceof RangesLostError && !retry.rangesLost) {
      meter.say(RANGES_LOST);
      const fresh = { ...withoutDurable(checkpoints.record), bytesRead: record.bytesRead };
      return await attempt(job, fresh, meter, { rangesLost: true });
    }
    if (failureTypeOf(error) === 'ChecksumMismatch')
      await empty(job, writer, checkpoints.record).catch(() => undefined);
    // what is written need not be fetched again, if there is time and room to say so
    else await checkpoints.flush().catch(() => undefined);
    throw error;
  }
}

function planOptions(job: ConvertJob, writer: SparseWriter): PlanOptions {
  return {
    checksum: job.checksum,
    contentType: job.contentType,
    format: job.format,
    verbatim: job.verbatim,
    target: job.size,
    scratch: job.scratch !== undefined,
    beginning: (bytes) => readTarget(writer, bytes),
  };
}

async function planByRanges(job: ConvertJob, writer: SparseWriter, retry: Retry): Promise<PlannedImage> {
  const source = retry.rangesLost ? withoutRanges(job.source) : job.source;
  return await planImage(source, planOptions(job, writer));
}

/** `undefined` for a source, or an image without scratch space, that can only be read by ranges: it may have changed in truth. */
async function planInOneAnswer(job: ConvertJob, writer: SparseWriter): Promise<PlannedImage | undefined> {
  const source = job.source.inOneAnswer?.();
  if (!source) return undefined;
  try {
    return await planImage(source, planOptions(job, writer));
  } catch (error) {
    source.close();
    if (failureTypeOf(error) !== 'ScratchSpaceRequired') throw error;
    return undefined;
  }
}

/** Vouches for nothing of the disk: no later answer can prove that it is of the same state. */
function withoutProgress(records: RecordStore, record: ResumeRecord): RecordStore {
  return { ...records, save: ({ bytesRead }) => records.save({ ...record, bytesRead }) };
}

/**
 * Enters for good that the source is to be read in one answer, and the change that it may have been.
 * @throws the error, where it is no contradiction, or none that this can cure
 */
async function noteContradiction(job: ConvertJob, meter: Meter, error: unknown): Promise<void> {
  const found = await job.records.load();
  const noted = found.fence === job.fence && enterContradiction(found, job.source, error);
  if (!noted) throw error;
  await job.records.save({ ...withoutDurable(noted), bytesRead: meter.bytesRead() });
}

/** The beginning of the disk, read back. */
async function* readTarget(writer: SparseWriter, bytes: number): AsyncGenerator<Buffer> {
  const memory = Buffer.allocUnsafeSlow(READ_BACK);
  for (let at = 0; at < bytes; at += READ_BACK) {
    const piece = memory.subarray(0, Math.min(READ_BACK, bytes - at));
    await writer.read(at, piece);
    yield piece;
  }
}

interface Written {
  readonly planned: PlannedImage;
  readonly writer: SparseWriter;
  readonly durable: Durable;
  readonly meter: Meter;
}

/** All bytes are in the file: make them and then the record durable. */
async function finish(
  job: ConvertJob,
  record: ResumeRecord,
  { planned, writer, durable, meter }: Written,
  read: Read,
): Promise<TransferResult> {
  const format = read.format ?? planned.facts.format;
  // by its end alone is a fixed VHD known
  if (job.format && job.format !== format) throw otherFormat(planned.facts.containers, format, job.format);
  if (read.virtualSize > job.size.usableBytes)
    throw largerPvcRequired(`${read.virtualSize}`, read.virtualSize, job.size);
  await job.source.settle?.();
  // no reason to refuse it: disks of any length are taken
  if (planned.facts.unproved !== undefined && format === 'raw' && read.virtualSize % SECTOR_BYTES !== 0)
    meter.say(`${planned.facts.unproved}; it has ended inside a sector, after ${read.virtualSize} bytes`);
  meter.enter('syncing');
  const diskBytes = job.size.fit ? read.virtualSize : job.size.usableBytes;
  if (job.size.fit) await writer.truncate(diskBytes);
  await writer.syncAll();
  refuseRemoved(job);
  const result: TransferResult = {
    virtualSize: read.virtualSize,
    diskBytes,
    bytesTransferred: meter.bytesRead(),
    bytesWritten: durable.bytesWritten + writer.bytesWritten,
    ...(job.checksum === undefined ? {} : { checksum: job.checksum }),
    resumedFrom: durable.completed,
    format,
    ...(read.scratchBytes > 0 ? { scratchBytes: read.scratchBytes } : {}),
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
  const contradicted = isContradiction(error) ? { contradicted: true } : {};
  await job.records
    .save(changed ? { ...withoutDurable(record), ...contradicted, changes } : record)
    .catch(() => undefined);
  return (changed && changedTooOften(changes, error)) || error;
}

async function empty(job: ConvertJob, writer: SparseWriter, record: ResumeRecord): Promise<void> {
  await writer.truncate(0);
  await writer.syncAll();
  await job.records.save(withoutDurable(record));
}

/** A file that was unlinked meanwhile was filled for nobody. */
function refuseRemoved({ target, size }: ConvertJob): void {
  if (target.deviceBytes === undefined && fstatSync(target.fd).nlink === 0)
    throw permanentFailure('ClaimLost', `disk of ${size.claimName} was removed while it was written`);
}
