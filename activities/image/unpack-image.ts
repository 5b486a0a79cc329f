import { fstatSync } from 'node:fs';
import { ApplicationFailure, failureTypeOf } from '../failures.js';
import type { TransferProgress, TransferResult } from '../types.js';
import { emptyVolume } from './archive/unpack-empty.js';
import { unpackTar } from './archive/unpack.js';
import { enterContradiction } from './contradiction.js';
import { createMeter, type Meter } from './meter.js';
import { planImage } from './plan-image.js';
import { changedTooOften } from './refusals.js';
import type { RecordStore, ResumeRecord } from './resume-record.js';
import type { TargetSize } from './size.js';
import { isContradiction } from './source/http-failures.js';
import { RangesLostError, type ImageSource } from './source/types.js';
import { IN_ONE_ANSWER, RANGES_LOST, withoutRanges } from './source/without-ranges.js';

/** One attempt to fill a directory from an archive. */
export interface UnpackJob {
  readonly source: ImageSource;
  /** The directory, which is emptied first. */
  readonly directory: { readonly fd: number };
  /** `usableBytes` bounds what is unpacked. */
  readonly size: TargetSize;
  /** `algorithm:hex` of the source as served. */
  readonly checksum?: string;
  readonly records: RecordStore;
  /** This attempt's fencing number; greater than that of any earlier one. */
  readonly fence: number;
  /** Temporal attempt, for progress. */
  readonly attempt: number;
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: TransferProgress) => void;
}

/**
 * Unpacks a tar, plain or in gz, xz or zst, into a directory (`contentType: archive`) and makes it durable. An attempt that was
 * killed is begun anew: files of an archive cannot be entered in the middle. What no other attempt can cure leaves the directory
 * empty; what it held before stays if the source is refused by its first bytes.
 * @throws {@link FailureType} every type of source and image, `ContentTypeNotSupported`, `LargerPVCRequired`, `NoSpace`
 */
export async function unpackImage(job: UnpackJob): Promise<TransferResult> {
  const { result: before, state, ...found } = await job.records.load();
  if (before && (await isStill(job, state))) return before;
  let record: ResumeRecord = { ...found, fence: job.fence, barren: found.barren + 1 };
  await job.records.save(record);
  const meter = createMeter(job, record);
  let begun = false;
  try {
    const first = (record.contradicted && inOneAnswer(job, meter)) || job.source;
    const again = async (source: ImageSource): Promise<TransferResult> =>
      await unpack({ ...job, source }, meter, () => (begun = true));
    const result = await again(first).catch(async (error: unknown) => {
      if (error instanceof RangesLostError) {
        meter.say(RANGES_LOST);
        return await again(withoutRanges(job.source));
      }
      const noted = enterContradiction(record, job.source, error);
      if (!noted) throw error;
      record = { ...noted, bytesRead: meter.bytesRead() };
      await job.records.save(record);
      return await again(inOneAnswer(job, meter) ?? job.source);
    });
    const read = await job.source.state?.();
    await job.records.save({
      ...record,
      barren: 0,
      bytesRead: result.bytesTransferred,
      result,
      ...(read === undefined ? {} : { state: read }),
    });
    return result;
  } catch (reason) {
    const changes = record.changes + (failureTypeOf(reason) === 'SourceChanged' ? 1 : 0);
    const error = (changes > record.changes && changedTooOften(changes, reason)) || reason;
    const spoilt = begun && error instanceof ApplicationFailure && error.nonRetryable === true;
    if (spoilt || failureTypeOf(error) === 'ChecksumMismatch')
      await empty(job.directory).catch(() => undefined);
    const bytesRead = meter.bytesRead();
    // a disk that is full now is no reason to hide why the attempt failed
    const contradicted = isContradiction(reason) ? { contradicted: true } : {};
    await job.records.save({ ...record, ...contradicted, changes, bytesRead }).catch(() => undefined);
    throw error;
  } finally {
    meter.stop();
  }
}

function inOneAnswer({ source }: UnpackJob, meter: Meter): ImageSource | undefined {
  if (source.inOneAnswer) meter.say(IN_ONE_ANSWER);
  return source.inOneAnswer?.();
}

/** The files of a volume may have been written to since they were cloned; an image that was read whole is not asked for again. */
async function isStill({ source }: UnpackJob, state: string | undefined): Promise<boolean> {
  return !source.state || (state !== undefined && (await source.state()) === state);
}

/** What is not what it was to be must not be used. */
async function empty(directory: UnpackJob['directory']): Promise<void> {
  await emptyVolume(directory, { device: fstatSync(directory.fd, { bigint: true }).dev });
}

async function unpack(job: UnpackJob, meter: Meter, onBegin: () => void): Promise<TransferResult> {
  const { source, directory, size, checksum, signal } = job;
  using planned = await planImage(source, { checksum, contentType: 'archive', scratch: false });
  const { opened, facts } = planned;
  onBegin();
  let written = 0;
  meter.begin(facts, { written: () => written });
  const { length } = facts.validators;
  const { bytes } = await unpackTar(opened.view.stream(0), directory, {
    size,
    signal,
    notice: (message) => meter.say(message),
    onProgress(bytesWritten) {
      written = bytesWritten;
      meter.at(length ? source.bytesRead / length : undefined);
    },
  });
  await source.settle?.();
  return {
    virtualSize: bytes,
    diskBytes: 0,
    bytesTransferred: meter.bytesRead(),
    bytesWritten: bytes,
    ...(checksum === undefined ? {} : { checksum }),
    resumedFrom: 0,
    format: facts.format,
  };
}
