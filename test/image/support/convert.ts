import { closeSync, constants, mkdirSync, openSync } from 'node:fs';
import type { ConvertJob } from '../../../activities/image/convert-job.js';
import { convertImage } from '../../../activities/image/convert.js';
import { createRecordStore } from '../../../activities/image/resume-record.js';
import type { TransferProgress, TransferResult } from '../../../activities/types.js';
import { createFileSource, type FileSourceOptions } from './file-source.js';

/** What a test varies of a conversion. */
export interface ConvertTestOptions extends FileSourceOptions {
  readonly usableBytes: number;
  /** The target takes the size of the disk. */
  readonly fit?: boolean;
  readonly checksum?: string;
  readonly scratch?: string;
  readonly preallocation?: boolean;
  readonly direct?: boolean;
  readonly format?: ConvertJob['format'];
  readonly fence?: number;
  readonly signal?: AbortSignal;
  readonly checkpointEvery?: ConvertJob['checkpointEvery'];
  readonly progress?: TransferProgress[];
}

/** Converts a local file into `target`, with the record beside it. */
export async function convertFile(
  image: string,
  target: string,
  options: ConvertTestOptions,
): Promise<TransferResult> {
  const { O_RDWR, O_CREAT, O_DIRECT } = constants;
  const fd = openSync(target, O_RDWR | O_CREAT, 0o660);
  const directFd = options.direct === false ? undefined : openSync(target, O_RDWR | O_DIRECT);
  const recordDirectory = `${target}.record`;
  mkdirSync(recordDirectory, { recursive: true });
  const source = createFileSource(image, options);
  try {
    return await convertImage({
      source,
      target: { fd, ...(directFd === undefined ? {} : { directFd }) },
      size: {
        claimName: 'team-a/vm1',
        usableBytes: options.usableBytes,
        ...(options.fit ? { fit: true } : {}),
      },
      preallocation: options.preallocation ?? false,
      ...(options.checksum === undefined ? {} : { checksum: options.checksum }),
      ...(options.scratch === undefined ? {} : { scratch: options.scratch }),
      ...(options.format ? { format: options.format } : {}),
      records: createRecordStore(recordDirectory),
      fence: options.fence ?? 1,
      attempt: options.fence ?? 1,
      signal: options.signal ?? new AbortController().signal,
      ...(options.checkpointEvery ? { checkpointEvery: options.checkpointEvery } : {}),
      onProgress: (progress) => options.progress?.push(progress),
    });
  } finally {
    source.close();
    closeSync(fd);
    if (directFd !== undefined) closeSync(directFd);
  }
}
