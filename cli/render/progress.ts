import type { ImportStatus } from '../../client/index.js';
import { bytes, duration, percent, readFigure, timeLeft } from './figures.js';

/** What moves while an import runs: the figures behind the bar, or of one line. */
export function progressFigures({ progress, step, waiting, retrying }: ImportStatus): string {
  const [failed] = retrying;
  if (failed)
    return `attempt ${failed.attempt} of ${failed.activity}, the last one failed: ${failed.failure}`;
  if (waiting) return `waiting: ${waiting.for}`;
  if (!progress) return step;
  const { bytesWritten, rate, attempt, message, phase } = progress;
  const left = timeLeft(progress);
  return [
    readFigure(progress),
    `wrote ${bytes(bytesWritten)}`,
    ...(phase === 'transferring' || phase === 'waiting' ? [`${bytes(rate)}/s`] : [phase]),
    ...(left === undefined || phase !== 'transferring' ? [] : [`ETA ${duration(left)}`]),
    ...(attempt > 1 ? [`attempt ${attempt}`] : []),
    ...(message ? [message] : []),
  ].join('  ');
}

/** One line of progress, for output that is no terminal: `ImportInProgress  45.3%  read 1.2 GiB of 2.7 GiB  …`. */
export function progressLine(status: ImportStatus): string {
  const fraction = status.progress?.fraction;
  return [
    status.phase || 'Pending',
    ...(fraction === undefined ? [] : [percent(fraction)]),
    progressFigures(status),
  ].join('  ');
}
