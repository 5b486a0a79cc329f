import type { TransferResult } from '../activities/types.js';
import { print } from './output.js';
import { bytes, span } from './render/figures.js';

/** What is told of a finished conversion, besides the result itself. */
export interface ConvertReport extends TransferResult {
  readonly seconds: number;
  readonly sha256OfDisk?: string;
  readonly stats: {
    readonly peakRssBytes: number;
    /** Longest time that the event loop did not turn. */
    readonly maxLoopDelayMs: number;
    readonly userSeconds: number;
    readonly systemSeconds: number;
  };
}

/** How a conversion went. */
export interface Circumstances {
  /** By `performance.now()`. */
  readonly started: number;
  /** Of the disk, where it was asked for. */
  readonly digest: string | undefined;
  readonly maxLoopDelayMs: number;
}

/** The report of a conversion that ends now, in this process. */
export function reportOf(
  result: TransferResult,
  { started, digest, maxLoopDelayMs }: Circumstances,
): ConvertReport {
  const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage();
  return {
    ...result,
    seconds: (performance.now() - started) / 1000,
    ...(digest === undefined ? {} : { sha256OfDisk: digest }),
    stats: {
      peakRssBytes: maxRSS * 1024,
      maxLoopDelayMs: Math.max(0, Math.round(maxLoopDelayMs)),
      userSeconds: userCPUTime / 1e6,
      systemSeconds: systemCPUTime / 1e6,
    },
  };
}

/** Says it to people, with the target's path. */
export function printReport(path: string, report: ConvertReport): void {
  const { virtualSize, bytesTransferred, bytesWritten, seconds, checksum, sha256OfDisk } = report;
  print(`${path}: ${bytes(virtualSize)} (${virtualSize} bytes) in ${span(seconds * 1000)}`);
  print(`read ${bytes(bytesTransferred)}, wrote ${bytes(bytesWritten)}`);
  if (checksum !== undefined) print(`checksum of the source ${checksum}: matches`);
  if (sha256OfDisk !== undefined) print(`sha256 of the disk ${sha256OfDisk}`);
}
