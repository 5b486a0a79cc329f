import { mkdirSync } from 'node:fs';
import type { ConvertJob } from '../../../activities/image/convert-job.js';
import { convertImage } from '../../../activities/image/convert.js';
import { createRecordStore, type RecordStore } from '../../../activities/image/resume-record.js';
import type { ImageSource } from '../../../activities/image/source/types.js';
import { openLocalTarget } from '../../../activities/image/target/local-target.js';
import type { TransferResult } from '../../../activities/types.js';

/** What a test varies of a conversion into a path. */
export interface ConvertIntoOptions extends Partial<
  Pick<ConvertJob, 'checksum' | 'contentType' | 'scratch' | 'checkpointEvery' | 'signal' | 'onProgress'>
> {
  /** @default 1 */
  readonly fence?: number;
  /** What the claim offers; absent: the file becomes as large as the disk. */
  readonly usableBytes?: number;
  /** Directory of the resume record. @default beside the target */
  readonly state?: string;
  /** @default a store in {@link ConvertIntoOptions.state} */
  readonly records?: RecordStore;
}

/** Converts a source into a file, which becomes as large as the disk, or onto a block device, as `dvflow convert` does it; closes the source. */
export async function convertInto(
  source: ImageSource,
  path: string,
  {
    fence = 1,
    state = `${path}.record`,
    records = createRecordStore(state),
    usableBytes,
    signal,
    ...options
  }: ConvertIntoOptions = {},
): Promise<TransferResult> {
  mkdirSync(state, { recursive: true });
  try {
    await using target = await openLocalTarget(path);
    const offered = target.file.deviceBytes ?? usableBytes;
    return await convertImage({
      ...options,
      source,
      target: target.file,
      size:
        offered === undefined
          ? { claimName: path, usableBytes: Number.MAX_SAFE_INTEGER, fit: true }
          : { claimName: path, usableBytes: offered },
      preallocation: false,
      records,
      fence,
      attempt: fence,
      signal: signal ?? new AbortController().signal,
    });
  } finally {
    source.close();
  }
}
