import { closeSync, mkdirSync, openSync } from 'node:fs';
import { failureTypeOf } from '../../activities/failures.js';
import type { ConvertJob } from '../../activities/image/convert-job.js';
import { convertImage } from '../../activities/image/convert.js';
import { createRecordStore } from '../../activities/image/resume-record.js';
import type { ImageSource } from '../../activities/image/source/types.js';
import { openLocalTarget } from '../../activities/image/target/local-target.js';
import { unpackImage } from '../../activities/image/unpack-image.js';
import type { TransferResult } from '../../activities/types.js';
import { createFileSource } from '../image/support/file-source.js';
import type { FuzzAnswer, FuzzEnd, FuzzJob } from './job.js';

/** A disk of the image's own size is made up to here; ext4 holds files of 16 TiB. In bytes. */
const LARGEST_FIT = 2 ** 43;

/** Converts by the engine: one attempt, or a second one after the first was made to fail. */
export async function convert(job: FuzzJob): Promise<FuzzAnswer> {
  const outside: string[] = [];
  mkdirSync(job.state, { recursive: true });
  const first = await attempt(job, 1, outside);
  const interrupted = job.source.failAfter !== undefined && isInterruption(first);
  return { end: interrupted ? await attempt(job, 2, outside) : first, outside };
}

function isInterruption(end: FuzzEnd): boolean {
  return end.kind === 'refused' && end.type === 'SourceUnavailable';
}

async function attempt(job: FuzzJob, fence: number, outside: string[]): Promise<FuzzEnd> {
  const { failAfter, ...rest } = job.source;
  const options = fence === 1 && failAfter !== undefined ? { ...rest, failAfter } : rest;
  const source = watchReads(createFileSource(job.image, options), outside);
  try {
    const { format, virtualSize, diskBytes } = await run(job, source, fence);
    return { kind: 'done', format, virtualSize, diskBytes };
  } catch (error) {
    const type = failureTypeOf(error);
    if (type !== undefined) return { kind: 'refused', type, message: (error as Error).message };
    return { kind: 'untyped', message: error instanceof Error ? String(error.stack) : String(error) };
  } finally {
    source.close();
  }
}

async function run(job: FuzzJob, source: ImageSource, fence: number): Promise<TransferResult> {
  const { usableBytes = LARGEST_FIT } = job;
  const common = {
    source,
    ...(job.checksum === undefined ? {} : { checksum: job.checksum }),
    records: createRecordStore(job.state),
    fence,
    attempt: fence,
    signal: new AbortController().signal,
  };
  if (job.contentType === 'archive') return await unpackInto(job, common);
  await using target = await openLocalTarget(job.target);
  const { directFd, ...buffered } = target.file;
  const fit = job.usableBytes === undefined;
  return await convertImage({
    ...common,
    target: job.direct && directFd !== undefined ? { ...buffered, directFd } : buffered,
    size: { claimName: 'fuzz/disk', usableBytes, ...(fit ? { fit } : {}) },
    preallocation: false,
    ...(job.scratch === undefined ? {} : { scratch: job.scratch }),
    // each record is two syncs: often where a second attempt goes on from one, else as seldom as by default
    ...(job.source.failAfter === undefined ? {} : { checkpointEvery: { everyBytes: 262_144 } }),
  });
}

type Common = Pick<ConvertJob, 'source' | 'checksum' | 'records' | 'fence' | 'attempt' | 'signal'>;

async function unpackInto(
  { target, usableBytes = 2 ** 30 }: FuzzJob,
  common: Common,
): Promise<TransferResult> {
  mkdirSync(target, { recursive: true });
  const fd = openSync(target, 'r');
  try {
    return await unpackImage({
      ...common,
      directory: { fd },
      size: { claimName: 'fuzz/volume', usableBytes },
    });
  } finally {
    closeSync(fd);
  }
}

/** Notes each read beyond the end of a source, also one whose failure the reader swallows. */
function watchReads(source: ImageSource, outside: string[]): ImageSource {
  let size: number | undefined;

  function watch(start: number, end: number): void {
    if (size !== undefined && (start < 0 || end > size)) outside.push(`${start} to ${end} of ${size}`);
  }
  return {
    async probe() {
      const facts = await source.probe();
      size = facts.validators.length;
      return facts;
    },
    stream(start) {
      watch(start, start);
      return source.stream(start);
    },
    async readInto(start, target) {
      watch(start, start + target.length);
      await source.readInto(start, target);
    },
    get bytesRead() {
      return source.bytesRead;
    },
    close: () => source.close(),
  };
}
