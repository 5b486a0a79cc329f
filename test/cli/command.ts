import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
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
