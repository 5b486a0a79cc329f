import type { ImageFacts, TransferProgress } from '../types.js';
import type { ImageSource } from './source/types.js';
import type { ResumeRecord } from './resume-record.js';

const TICK_MS = 250;
/** The rate is that of the last so many ticks: 4 seconds. */
const RATE_TICKS = 16;
/** Never 1: the work is done when it is synced and verified, and then nobody asks for progress. */
const ALMOST = 0.999_999;

/** Tells how far an attempt is, four times a second. */
export interface Meter {
  begin(image: ImageFacts, counts: MeterCounts): void;
  enter(phase: TransferProgress['phase']): void;
  /** Part of the work done, 0 to 1; a smaller part than was said before is not said. */
  at(fraction: number | undefined): void;
  say(message: string): void;
  /** So many bytes more of a device were made zero. */
  zeroed(bytes: number): void;
  /** Bytes fetched, all attempts together. */
  bytesRead(): number;
  stop(): void;
}

/** Figures that only the work itself knows. */
export interface MeterCounts {
  /** Bytes of data written, all attempts together. */
  readonly written: () => number;
  /** Attempts in a row that made nothing durable. */
  readonly barren?: () => number;
}

interface MeterJob {
  readonly source: ImageSource;
  readonly attempt: number;
  readonly onProgress?: (progress: TransferProgress) => void;
}

/** A meter that reports to `job.onProgress` until it is stopped. */
export function createMeter(job: MeterJob, record: ResumeRecord): Meter {
  let phase: TransferProgress['phase'] = 'starting';
  let message: string | undefined;
  let fraction: number | undefined;
  let total: number | undefined;
  let bytesZeroed = 0;
  let written = (): number => 0;
  let barren = (): number => record.barren;
  const samples: { time: number; bytes: number }[] = [];

  const bytesRead = (): number => record.bytesRead + job.source.bytesRead;

  function rate(): number {
    samples.push({ time: performance.now(), bytes: job.source.bytesRead });
    if (samples.length > RATE_TICKS) samples.shift();
    const [first] = samples;
    const last = samples.at(-1);
    if (!first || !last || last.time === first.time) return 0;
    return Math.round(((last.bytes - first.bytes) * 1000) / (last.time - first.time));
  }

  function report(): void {
    job.onProgress?.({
      phase,
      bytesRead: bytesRead(),
      ...(total === undefined ? {} : { bytesReadTotal: total }),
      bytesWritten: written(),
      ...(bytesZeroed === 0 ? {} : { bytesZeroed }),
      ...(fraction === undefined ? {} : { fraction: Math.min(Math.max(fraction, 0), ALMOST) }),
      rate: rate(),
      attempt: job.attempt,
      barren: barren(),
      ...(message === undefined ? {} : { message }),
    });
  }
  const timer = setInterval(report, TICK_MS);

  return {
    begin(image, counts) {
      phase = 'transferring';
      total = image.validators.length;
      ({ written, barren = barren } = counts);
      report();
    },
    enter(next) {
      phase = next;
      report();
    },
    at(value) {
      if (value !== undefined) fraction = Math.max(fraction ?? 0, value);
    },
    say(text) {
      message = text;
      report();
    },
    zeroed(bytes) {
      bytesZeroed += bytes;
    },
    bytesRead,
    stop: () => clearInterval(timer),
  };
}
