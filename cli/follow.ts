import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import type { ImportStatus, Run } from '../client/index.js';
import { isAway, outlastOutages } from '../client/outages.js';
import { CliError } from './errors.js';
import { createBar } from './render/bar.js';
import { percent } from './render/figures.js';
import { progressFigures, progressLine } from './render/progress.js';
import { triedOnce } from '../client/tries.js';

/** Shows an import while it runs. */
export interface View {
  show(status: ImportStatus): void;
  end(): void;
}

/** Time between two looks, in ms: the workers renew progress as often. */
const LOOK_MS = 1_000;

/** Least time between two lines that differ in figures only, in ms. */
const LINE_MS = 2_000;

/** How long Temporal is away before it is worth a line, in ms: a restart behind a load balancer is not. */
const OUTAGE_MS = 5_000;

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

/** What is waited for. */
export interface Followed<T> {
  /** The end; given up at the abort of the signal. */
  readonly result: (ended: AbortSignal) => Promise<T>;
  readonly status: () => Promise<ImportStatus>;
  /** Such as `import of team-a/vm1`. */
  readonly name: string;
}

/**
 * Shows the status once a second until the result is there, through outages of Temporal. Ctrl-C ends the waiting, not the work.
 * Its calls to Temporal are over, or ended, when it returns.
 * @throws what `result` throws, or {@link CliError} 130 after Ctrl-C
 */
export async function follow<T>(client: Client, followed: Followed<T>, view: View): Promise<T> {
  const ended = new AbortController();
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort();
  process.once('SIGINT', interrupt);
  const watching = triedOnce(() => showUntil(ended.signal, client, followed, view));
  try {
    const result = triedOnce(() => client.withAbortSignal(ended.signal, () => followed.result(ended.signal)));
    return await Promise.race([result, interruption(interrupted.signal, followed.name)]);
  } finally {
    ended.abort();
    process.removeListener('SIGINT', interrupt);
    await watching;
    view.end();
  }
}

async function showUntil(
  ended: AbortSignal,
  client: Client,
  { status, name }: Followed<unknown>,
  view: View,
): Promise<void> {
  const outage = createOutage(name, view);
  while (!ended.aborted) {
    try {
      const shown = await endedBy(ended, client, status);
      outage.over();
      if (!ended.aborted) view.show(shown);
    } catch (error) {
      // A worker or server that is away for a moment is no end: the result tells of that.
      if (!ended.aborted) outage.met(error);
    }
    await sleep(LOOK_MS, undefined, { signal: ended }).catch(() => undefined);
  }
}

/** Tells once an outage that Temporal does not answer. */
function createOutage(name: string, view: View) {
  let since: number | undefined;
  let told = false;
  return {
    met(error: unknown): void {
      if (!isAway(error)) return;
      since ??= performance.now();
      if (told || performance.now() - since < OUTAGE_MS) return;
      told = true;
      // a bar is wiped, and drawn anew by what is shown next
      view.end();
      tellOutage(name);
    },
    over(): void {
      since = undefined;
      told = false;
    },
  };
}

/** The end of a run that is not shown, through outages of Temporal, of which it tells. */
export async function endOf(client: Client, { workflowId, runId }: Run, name: string): Promise<unknown> {
  const handle = client.workflow.getHandle(workflowId, runId);
  return await outlastOutages(
    client,
    () => handle.result(),
    () => tellOutage(name),
  );
}

function tellOutage(name: string): void {
  process.stderr.write(
    `dvflow: Temporal does not answer; ${name} goes on, and so does the wait for its end\n`,
  );
}

/** One call, which the signal ends. Temporal's client never takes its listener off a signal: each call gets its own. */
async function endedBy<T>(signal: AbortSignal, client: Client, call: () => Promise<T>): Promise<T> {
  const own = new AbortController();
  const abort = () => own.abort();
  signal.addEventListener('abort', abort);
  try {
    return await client.withAbortSignal(own.signal, call);
  } finally {
    signal.removeEventListener('abort', abort);
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
