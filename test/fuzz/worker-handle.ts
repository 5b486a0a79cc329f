import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { SOURCE_LOADER } from '../support/source-loader.js';
import type { FuzzAnswer, FuzzJob } from './job.js';
import { cpuSecondsOf, forgetPeak, peakOf } from './process-facts.js';

/** What converts: a module that exports `convert`, and a word for it. */
export interface EngineModule {
  readonly url: string;
  readonly word?: string;
}

/** The engine under test. */
export const ENGINE: EngineModule = { url: new URL('./engine.ts', import.meta.url).href };

/** How a job went for the process that did it. */
export type Ran = (
  | { readonly kind: 'answered'; readonly answer: FuzzAnswer }
  | { readonly kind: 'crashed'; readonly how: string }
  | { readonly kind: 'hung' }
) & {
  /** Of the clock, and of the processor. */
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly peakBytes: number;
};

/** A process that converts, which is begun anew when it is gone. */
export interface WorkerHandle extends AsyncDisposable {
  /** Converts in the process; kills it when there is no answer for `limitMs`. */
  run(job: FuzzJob, limitMs: number): Promise<Ran>;
  /** Ends the process, so that the next job has a new one. */
  renew(): Promise<void>;
}

/** Makes the handle; the process begins with the first job. */
export function createWorker(engine: EngineModule = ENGINE): WorkerHandle {
  let child: ChildProcess | undefined;
  let said = '';

  async function start(): Promise<ChildProcess> {
    const started = fork(
      fileURLToPath(new URL('./worker.ts', import.meta.url)),
      [engine.url, engine.word ?? ''],
      {
        execArgv: [...SOURCE_LOADER],
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      },
    );
    said = '';
    started.stderr?.on('data', (text: Buffer) => (said = `${said}${text.toString()}`.slice(-2000)));
    const ended = once(started, 'exit').then(() => {
      throw new Error(`the worker ended before its first job: ${said}`);
    });
    await Promise.race([once(started, 'message'), ended]);
    ended.catch(() => undefined);
    return started;
  }

  async function renew(): Promise<void> {
    if (child === undefined) return;
    const ending = isGone(child) ? undefined : once(child, 'exit');
    child.kill('SIGKILL');
    await ending;
    child = undefined;
  }

  async function run(job: FuzzJob, limitMs: number): Promise<Ran> {
    child ??= await start();
    const pid = child.pid ?? 0;
    forgetPeak(pid);
    const [begun, cpuBefore] = [performance.now(), cpuSecondsOf(pid)];
    const ended = await answerOf(child, job, { limitMs, said: () => said });
    const figures = {
      seconds: (performance.now() - begun) / 1000,
      cpuSeconds: cpuSecondsOf(pid) - cpuBefore,
      peakBytes: peakOf(pid),
    };
    if (ended.kind !== 'answered') await renew();
    return { ...ended, ...figures };
  }
  return { run, renew, [Symbol.asyncDispose]: renew };
}

type Ended =
  | { readonly kind: 'answered'; readonly answer: FuzzAnswer }
  | { readonly kind: 'crashed'; readonly how: string }
  | { readonly kind: 'hung' };

async function answerOf(
  child: ChildProcess,
  job: FuzzJob,
  { limitMs, said }: { limitMs: number; said: () => string },
): Promise<Ended> {
  const stop = new AbortController();
  const { signal } = stop;
  const late = new Promise<Ended>((resolve) => {
    const timer = setTimeout(() => resolve({ kind: 'hung' }), limitMs);
    signal.addEventListener('abort', () => clearTimeout(timer));
  });
  const answered = once(child, 'message', { signal }).then(([answer]): Ended => ({
    kind: 'answered',
    answer: answer as FuzzAnswer,
  }));
  // after `close` everything that it has printed is there
  const crashed = once(child, 'close', { signal }).then(([code, killer]): Ended => ({
    kind: 'crashed',
    how: `ended with ${String(killer ?? code)}: ${said()}`,
  }));
  answered.catch(() => undefined);
  crashed.catch(() => undefined);
  child.send(job, (error) => error && undefined);
  try {
    return await Promise.race([answered, crashed, late]);
  } finally {
    stop.abort();
  }
}

function isGone(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}
