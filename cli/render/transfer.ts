import type { TransferProgress } from '../../activities/types.js';
import { bytes, duration, percent, readFigure, timeLeft } from './figures.js';

/** Shows a transfer of this process. */
export interface TransferView {
  show(progress: TransferProgress): void;
  /** Something the source said. */
  notice(message: string): void;
  end(): void;
}

/** Least time between two lines, in ms, where there is no terminal. */
const LINE_MS = 2_000;

/** A bar on a terminal, lines on anything else, nothing at all if `silent`. */
export async function createTransferView(stream: NodeJS.WriteStream, silent: boolean): Promise<TransferView> {
  if (silent) return { show: () => undefined, notice: () => undefined, end: () => undefined };
  return stream.isTTY ? await createBarView(stream) : createLines((line) => void stream.write(`${line}\n`));
}

async function createBarView(stream: NodeJS.WriteStream): Promise<TransferView> {
  // the bar's library is a tenth of what a command without a terminal would load
  const { createBar } = await import('./bar.js');
  const bar = createBar(stream);
  let said: string | undefined;
  return {
    show(progress) {
      const { phase, fraction } = progress;
      bar.show(fraction ?? 0, {
        phase,
        part: fraction === undefined ? '' : percent(fraction),
        figures: [figures(progress), ...(said === undefined ? [] : [said])].join('  '),
      });
    },
    notice: (message) => (said = message),
    end: () => bar.end(),
  };
}

function createLines(write: (line: string) => void): TransferView {
  let last = { at: performance.now(), message: '' };
  return {
    show(progress) {
      const message = progress.message ?? '';
      if (performance.now() - last.at < LINE_MS && message === last.message) return;
      last = { at: performance.now(), message };
      const { fraction } = progress;
      write(
        [progress.phase, ...(fraction === undefined ? [] : [percent(fraction)]), figures(progress)].join(
          '  ',
        ),
      );
    },
    notice: write,
    end: () => undefined,
  };
}

/** `read 1.2 GiB of 2.7 GiB  wrote 3 GiB  700 MiB/s  ETA 2s`. */
function figures(progress: TransferProgress): string {
  const { bytesWritten, rate, message, phase } = progress;
  const left = timeLeft(progress);
  return [
    readFigure(progress),
    `wrote ${bytes(bytesWritten)}`,
    ...(phase === 'transferring' ? [`${bytes(rate)}/s`] : []),
    ...(left === undefined || phase !== 'transferring' ? [] : [`ETA ${duration(left)}`]),
    ...(message === undefined ? [] : [message]),
  ].join('  ');
}
