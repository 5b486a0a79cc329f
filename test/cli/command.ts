import { spawn, spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { SOURCE_LOADER } from '../support/source-loader.js';

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));

/** What `process.execPath` is started with for a command line of dvflow, from its sources. */
export function commandLine(...args: readonly string[]): string[] {
  return [...SOURCE_LOADER, MAIN, ...args];
}

/** Environment away from every cluster and stack of whoever runs the tests. */
export function apart(home: string): NodeJS.ProcessEnv {
  return { PATH: process.env.PATH, HOME: home, DVFLOW_LOCAL_DIR: `${home}/local` };
}

/** Runs a command line to its own end; one that has none within `timeoutMs` is killed, and has no status. */
export function runDvflow(
  args: readonly string[],
  { env, timeoutMs }: { readonly env: NodeJS.ProcessEnv; readonly timeoutMs: number },
): Pick<SpawnSyncReturns<string>, 'status' | 'stdout' | 'stderr'> {
  const { status, stdout, stderr } = spawnSync(process.execPath, commandLine(...args), {
    encoding: 'utf8',
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    env,
  });
  return { status, stdout, stderr };
}

/** Starts a command line beside the test, which can tell it things and serve it. */
export function startDvflow(args: readonly string[], env: NodeJS.ProcessEnv) {
  const child = spawn(process.execPath, commandLine(...args), { env });
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (text: string) => (said[name] += text));
  const ended = once(child, 'close').then(([code]) => code as number | null);
  async function until(name: keyof typeof said, text: string): Promise<void> {
    while (!said[name].includes(text)) {
      if (child.exitCode !== null) throw new Error(`it has ended: ${said.stdout}${said.stderr}`);
      await sleep(50);
    }
  }
  return { child, said, ended, until };
}
