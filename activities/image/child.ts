/**
 * The program that moves bytes: started by `transfer.ts` without privileges, told what to do by one line on standard input,
 * ended when that closes. A decoder's bug is not root here, and the worker's event loop stays free.
 */
import { fstatSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { ApplicationFailure, failureTypeOf, isAway } from '../failures.js';
import type { TransferProgress, TransferResult } from '../types.js';
import { blockDeviceSize } from './block-device.js';
import type { ChildFailure, ChildJob, ChildMessage, ChildOrder } from './child-protocol.js';
import { convertImage } from './convert.js';
import { createRecordStore, FencedError } from './resume-record.js';
import { openSource } from './source/open-source.js';
import { refuseLocalFiles } from './source/refuse-local.js';
import type { ImageSource, SourceNotice } from './source/types.js';
import { nameUnforeseen } from './unforeseen.js';
import type { BodyEnd } from './upload/upload-source.js';

/** How long something that the source said stays in the progress. */
const NOTICE_MS = 5000;

/** What is not durable a client has to send again, over a line that is slower than the disk: records come sooner than of a fetch. */
const UPLOAD_CHECKPOINT = { everyBytes: 64 * 1024 * 1024 } as const;

process.on('uncaughtException', (error) => void giveUp(error));
process.on('unhandledRejection', (error) => void giveUp(error));

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const stopping = new AbortController();
const bodyEnd = Promise.withResolvers<BodyEnd>();

const first = await lines.next();
if (first.done) process.exit(0);
void obey();
const job = JSON.parse(first.value) as ChildJob;
await tell(await run(job).catch((error: unknown) => ({ failure: describe(error) })));
process.exit(0);

/** A further line says how a body has ended, or to stop; the end of the input means that the worker is gone. */
async function obey(): Promise<void> {
  const order = await lines.next();
  const said = order.done ? undefined : (JSON.parse(order.value) as ChildOrder);
  if (said && 'body' in said) {
    bodyEnd.resolve(said.body);
    return await obey();
  }
  bodyEnd.resolve({ broken: 'the upload was ended' });
  stopping.abort(new Error('the transfer was cancelled'));
  if (order.done) process.exit(1);
}

/** In place of Node's own report, which prints an error with its message, stack and properties. */
async function giveUp(error: unknown): Promise<never> {
  await tell({ failure: { message: nameUnforeseen(error), permanent: false } });
  process.exit(1);
}

async function run(job: ChildJob): Promise<ChildMessage> {
  let notice: { message: string; until: number } | undefined;
  const source = await open(job, (message) => (notice = { message, until: performance.now() + NOTICE_MS }));
  function report(progress: TransferProgress): void {
    const said = notice && performance.now() < notice.until ? { message: notice.message } : {};
    void tell({ progress: { ...progress, ...said } });
  }
  try {
    if (!job.upload?.spool) return { result: await fill(job, source, report) };
    const { fillFromSpool } = await import('./upload/fill-from-spool.js');
    const { signal } = stopping;
    return { result: await fillFromSpool(job, { source, signal, report, fill }) };
  } finally {
    source.close();
  }
}

/** What is fetched, or what is received. */
async function open(job: ChildJob, notice: SourceNotice): Promise<ImageSource> {
  const { request, upload, policy, fds } = job;
  const { signal } = stopping;
  const directory = `/proc/self/fd/${fds.record}`;
  if (upload) {
    const [{ createUploadSource }, { readBody }] = await Promise.all([
      import('./upload/upload-source.js'),
      import('./upload/body-reader.js'),
    ]);
    const bytes = readBody(fds.body ?? -1, signal);
    return createUploadSource(upload, { bytes, end: bodyEnd.promise, directory });
  }
  if (!request) throw new Error('a job has neither a request nor an upload');
  if (request.kind === 'volume') {
    const { openVolumeSource } = await import('./clone/open-volume.js');
    return await openVolumeSource(request, fds.volume, { signal, notice });
  }
  refuseLocalFiles(request);
  const { durable } = await createRecordStore(directory).load();
  return await openSource(request, { policy, signal, succeededBefore: durable !== undefined, notice });
}

async function fill(
  job: ChildJob,
  source: ImageSource,
  onProgress: (progress: TransferProgress) => void,
): Promise<TransferResult> {
  const { file, direct, directory, record, scratch } = job.fds;
  const checksum = job.upload ? job.upload.checksum : job.request?.checksum;
  const work = {
    source,
    size: { claimName: job.claimName, usableBytes: job.usableBytes },
    ...(checksum === undefined ? {} : { checksum }),
    records: createRecordStore(`/proc/self/fd/${record}`),
    fence: job.fence,
    attempt: job.attempt,
    signal: stopping.signal,
    onProgress,
  };
  if (job.contentType === 'archive') {
    const { unpackImage } = await import('./unpack-image.js');
    return await unpackImage({ ...work, directory: { fd: directory } });
  }
  if (file === undefined) throw new Error('a disk image has no file to go to');
  const target = {
    fd: file,
    directoryFd: directory,
    ...(direct === undefined ? {} : { directFd: direct }),
    ...(fstatSync(file).isBlockDevice() ? { deviceBytes: blockDeviceSize(file) } : {}),
  };
  const { preallocation, request, upload, scratchRoom } = job;
  const volume = request?.kind === 'volume' ? { verbatim: true, reflink: request.reflink ?? false } : {};
  return await convertImage({
    ...work,
    ...volume,
    ...(upload ? { checkpointEvery: UPLOAD_CHECKPOINT } : {}),
    target,
    preallocation,
    ...(scratch === undefined ? {} : { scratch: `/proc/self/fd/${scratch}` }),
    ...(scratchRoom === undefined ? {} : { scratchRoom }),
  });
}

function describe(error: unknown): ChildFailure {
  const type = failureTypeOf(error);
  if (error instanceof FencedError) return { message: error.message, permanent: false };
  if (!type || !(error instanceof ApplicationFailure))
    return { message: nameUnforeseen(error), permanent: false };
  const { message, nonRetryable } = error;
  const nextRetryDelay: unknown = error.nextRetryDelay;
  return {
    type,
    message,
    permanent: nonRetryable === true,
    ...(typeof nextRetryDelay === 'number' ? { nextRetryDelayMs: nextRetryDelay } : {}),
    ...(isAway(error) ? { away: true } : {}),
  };
}

async function tell(message: ChildMessage): Promise<void> {
  await new Promise<void>((resolve) => process.stdout.write(`${JSON.stringify(message)}\n`, () => resolve()));
}
