import { setTimeout as sleep } from 'node:timers/promises';
import type { ImportStatus } from '../client/index.js';
import { CliError } from './errors.js';
import { createBar } from './render/bar.js';
import { percent } from './render/figures.js';
import { progressFigures, progressLine } from './render/progress.js';

/** Shows an import while it runs. */
export interface View {
  show(status: ImportStatus): void;
  end(): void;
}

/** Time between two looks, in ms: the workers renew progress as often. */
const LOOK_MS = 1_000;

/** Least time between two lines that differ in figures only, in ms. */
const LINE_MS = 2_000;

/** A bar on a terminal, lines on anything else. */
export function createView(stream: NodeJS.WriteStream): View {
  return stream.isTTY ? createBarView(stream) : createLines((line) => stream.write(`${line}\n`));
}

/** Nothing is shown: `--output json` into a file. */
export const SILENT: View = { show: () => undefined, end: () => undefined };

function createBarView(stream: NodeJS.WriteStream): View {
  const bar = createBar(stream);
  let done: number | undefined;
  return {
    show(status) {
      // Between the last heartbeat and the end there is no transfer that would tell.
      done = status.phase === 'Succeeded' ? 1 : status.progress ? status.progress.fraction : done;
      bar.show(done ?? 0, {
        phase: status.phase || 'Pending',
        part: partOf(done),
        figures: progressFigures(status),
      });
    },
    end: () => bar.end(),
  };
}

function partOf(done: number | undefined): string {
  if (done === undefined) return '';
  return done === 1 ? '100.0%' : percent(done);
}

/** A line for each change of phase or step at once, for figures every two seconds; the same line never twice in a row. */
export function createLines(write: (line: string) => void, now: () => number = Date.now): View {
  let last = { line: '', state: '', at: -Infinity };
  return {
    show(status) {
      const line = progressLine(status);
      const state = `${status.phase} ${status.step} ${status.progress?.attempt ?? 1} ${status.waiting?.for ?? ''}`;
      if (line === last.line || (state === last.state && now() - last.at < LINE_MS)) return;
      write(line);
      last = { line, state, at: now() };
    },
    end: () => undefined,
  };
}

/**
 * Shows the status once a second until the result is there. Ctrl-C ends the waiting, not the work.
 * @throws what `result` throws, or {@link CliError} 130 after Ctrl-C
 */
export async function follow<T>(
  result: Promise<T>,
  status: () => Promise<ImportStatus>,
  view: View,
  name: string,
): Promise<T> {
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort();
  process.once('SIGINT', interrupt);
  const watching = new AbortController();
  const settled = result.finally(() => watching.abort());
  try {
    void showUntil(watching.signal, status, view);
    return await Promise.race([settled, interruption(interrupted.signal, name)]);
  } finally {
    watching.abort();
    process.removeListener('SIGINT', interrupt);
    view.end();
  }
}

async function showUntil(ended: AbortSignal, status: () => Promise<ImportStatus>, view: View): Promise<void> {
  while (!ended.aborted) {
    try {
      const shown = await status();
      if (!ended.aborted) view.show(shown);
    } catch {
      // A worker or server that is away for a moment is no end: the result tells of that.
    }
    await sleep(LOOK_MS, undefined, { signal: ended }).catch(() => undefined);
  }
}

async function interruption(signal: AbortSignal, name: string): Promise<never> {
  return await new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => {
      reject(
        new CliError(
          `${name} goes on; look at it with: dvflow get, dvflow describe; end it with: dvflow cancel`,
          130,
        ),
      );
    });
  });
}
