import type { ImageSource, RestartPoint } from './source/types.js';
import type { Durable, RecordStore, ResumeRecord, TargetFileFacts } from './resume-record.js';
import type { SparseWriter } from './writer.js';

/** A record is due after so many fetched bytes or so much time (`design.md` §7.9). */
const EVERY_BYTES = 256 * 1024 * 1024;
const EVERY_MS = 5000;

/** What an offered checkpoint takes if it becomes a record. */
export interface OfferOptions {
  /** Writes what is still gathered. */
  readonly flush?: (() => Promise<void>) | undefined;
  /** Where a compressor can be entered for what comes after. */
  readonly restart?: (() => RestartPoint | undefined) | undefined;
  /** Record it although none is due: nothing comes after it in this attempt. @default false */
  readonly last?: boolean | undefined;
}

/** Makes progress durable now and then. */
export interface Checkpoints {
  /** `completed` is written (after `flush`); recorded if a record is due. */
  offer(completed: number, options?: OfferOptions): Promise<void>;
  /** Records what was offered last without need of a flush, due or not. */
  flush(): Promise<void>;
  /** The newest record. */
  readonly record: ResumeRecord;
}

interface CheckpointOptions {
  readonly records: RecordStore;
  readonly writer: SparseWriter;
  readonly source: ImageSource;
  /** The record as this attempt found it. */
  readonly record: ResumeRecord;
  /** What is durable now, `completed` included. */
  readonly durable: Durable;
  /** The target as it is now; absent for a device. */
  readonly file?: () => TargetFileFacts | undefined;
  /** @default 256 MiB */
  readonly everyBytes?: number;
  /** @default 5000 */
  readonly everyMs?: number;
}

/** Order matters: data on stable storage first, then the record that vouches for it. */
export function createCheckpoints(options: CheckpointOptions): Checkpoints {
  const { records, writer, source, durable, everyBytes = EVERY_BYTES, everyMs = EVERY_MS } = options;
  let record: ResumeRecord = { ...options.record, durable };
  let lastBytes = source.bytesRead;
  let lastTime = performance.now();
  let written = 0;
  const writtenBefore = durable.bytesWritten;

  async function save(completed: number, restart?: RestartPoint): Promise<void> {
    const bytesWritten = writtenBefore + writer.bytesWritten;
    await writer.syncData();
    const file = options.file?.() ?? durable.file;
    record = {
      ...record,
      barren: completed > (record.reached ?? 0) ? 0 : record.barren,
      bytesRead: options.record.bytesRead + source.bytesRead,
      durable: {
        ...durable,
        completed,
        bytesWritten,
        ...(file ? { file } : {}),
        ...(restart ? { restart } : {}),
      },
    };
    await records.save(record);
    lastBytes = source.bytesRead;
    lastTime = performance.now();
  }

  async function offer(completed: number, { flush, restart, last }: OfferOptions = {}): Promise<void> {
    if (completed <= (record.durable?.completed ?? 0)) return;
    if (!flush) written = completed;
    const due = source.bytesRead - lastBytes >= everyBytes || performance.now() - lastTime >= everyMs;
    if (!due && !last) return;
    await flush?.();
    await save(completed, restart?.());
  }
  return {
    offer,
    async flush() {
      if (written > (record.durable?.completed ?? 0)) await save(written);
    },
    get record() {
      return record;
    },
  };
}
