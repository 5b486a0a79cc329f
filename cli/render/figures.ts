import prettyBytes from 'pretty-bytes';
import type { TransferProgress } from '../../activities/types.js';

/** Bytes for people: `1.2 GiB`. Never for messages that compare figures. */
export function bytes(count: number): string {
  return prettyBytes(count, { binary: true });
}

/** A duration in kubectl's manner, from ms: `45s`, `3m12s`, `2h5m`, `3d4h`. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [days, hours, minutes] = [
    Math.floor(seconds / 86_400),
    Math.floor(seconds / 3600),
    Math.floor(seconds / 60),
  ];
  if (days > 1) return `${days}d${hours % 24 > 0 ? `${hours % 24}h` : ''}`;
  if (hours > 1) return `${hours}h${minutes % 60 > 0 ? `${minutes % 60}m` : ''}`;
  if (minutes > 1) return `${minutes}m${seconds % 60 > 0 ? `${seconds % 60}s` : ''}`;
  return `${seconds}s`;
}

/** A short span with its fraction, from ms: `0.05s`, `1.3s`, `45s`. */
export function span(ms: number): string {
  if (ms < 100) return `${(ms / 1000).toFixed(2)}s`;
  return ms < 10_000 ? `${(ms / 1000).toFixed(1)}s` : duration(ms);
}

/** Part done in percent, never 100 before the end: `45.3%`. */
export function percent(fraction: number): string {
  return `${(Math.min(Math.floor(fraction * 1000), 999) / 10).toFixed(1)}%`;
}

/**
 * Time left in ms at the rate of the last seconds, as far as an honest estimate exists: what is left of the work, in bytes read
 * as the work so far took them; whole seconds, rounded up.
 */
export function timeLeft({ fraction, bytesRead, rate }: TransferProgress): number | undefined {
  if (fraction === undefined || fraction <= 0 || rate <= 0 || bytesRead <= 0) return undefined;
  return Math.ceil((((1 - fraction) / fraction) * bytesRead) / rate) * 1000;
}

/** `read 1.2 GiB of 2.7 GiB`. After attempts that read parts of the source again it is more than all of it, and said alone. */
export function readFigure({
  bytesRead,
  bytesReadTotal,
}: Pick<TransferProgress, 'bytesRead' | 'bytesReadTotal'>): string {
  const known = bytesReadTotal !== undefined && bytesRead <= bytesReadTotal;
  return `read ${bytes(bytesRead)}${known ? ` of ${bytes(bytesReadTotal)}` : ''}`;
}
