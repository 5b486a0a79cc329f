import type { TransferProgress, TransferResult } from '../../types.js';
import type { ChildJob } from '../child-protocol.js';
import type { ImageSource } from '../source/types.js';
import { spoolUpload } from './spool.js';

/** What a spooled upload is filled with. */
export interface SpoolFilling {
  /** The body. */
  readonly source: ImageSource;
  readonly signal: AbortSignal;
  readonly report: (progress: TransferProgress) => void;
  /** Fills the target from a source. */
  readonly fill: (
    job: ChildJob,
    source: ImageSource,
    onProgress: (progress: TransferProgress) => void,
  ) => Promise<TransferResult>;
}

/** Receives the whole file into scratch space, then fills the target from there; receiving is the first half of the work. */
export async function fillFromSpool(
  job: ChildJob,
  { source, signal, report, fill }: SpoolFilling,
): Promise<TransferResult> {
  const { upload, fds, scratchRoom: room, attempt } = job;
  if (!upload || fds.scratch === undefined) throw new Error('a spooled upload has no scratch space');
  const began = performance.now();
  const { length: total, start } = upload;
  function received(bytes: number): void {
    const seconds = Math.max(0.001, (performance.now() - began) / 1000);
    report({
      phase: 'transferring',
      bytesRead: bytes,
      ...(total ? { bytesReadTotal: total, fraction: bytes / total / 2 } : {}),
      bytesWritten: 0,
      rate: Math.round((bytes - start) / seconds),
      attempt,
      barren: 0,
      message: 'keeping the upload in scratch space (dvflow.io/upload-spool)',
    });
  }
  await using spooled = await spoolUpload(source, {
    body: upload,
    scratch: `/proc/self/fd/${fds.scratch}`,
    room,
    directory: `/proc/self/fd/${fds.record}`,
    signal,
    onProgress: received,
  });
  const result = await fill(job, spooled.source, (progress) =>
    report({
      ...progress,
      bytesRead: spooled.bytes + progress.bytesRead,
      ...(progress.fraction === undefined ? {} : { fraction: 0.5 + progress.fraction / 2 }),
    }),
  );
  return { ...result, bytesTransferred: spooled.bytes, scratchBytes: spooled.bytes };
}
