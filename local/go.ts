import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { tryLock } from './lock.js';
import type { Log } from './types.js';

/** The first Go that fetches the toolchain which a module asks for. */
const LEAST_GO = [1, 21] as const;
const PROGRESS_MS = 15_000;

/** A program that is built once. */
export interface GoProgram {
  readonly name: string;
  /** Where it lies when it is built: a directory for each state of its sources. */
  readonly path: string;
  /** What the log says of the build: `temporal v1.5.1 (once; some minutes)`. */
  readonly description: string;
  /** Puts the program, under its name, into a directory. */
  readonly build: (directory: string) => Promise<void>;
}

/**
 * Builds a program unless it is built; who asks for one that is being built waits for it.
 * @throws when Go is missing, too old, or fails
 */
export async function buildOnce(program: GoProgram, log: Log): Promise<string> {
  const { path } = program;
  if (existsSync(path)) return path;
  checkGo(program.name);
  // of this program only: whoever builds several others meanwhile would hold it from one to the next
  let release = await tryLock(path);
  if (release === undefined) log(`waiting for another build of ${program.name} to end`);
  while (release === undefined) {
    await sleep(500);
    release = await tryLock(path);
  }
  try {
    if (!existsSync(path)) await build(program, log);
  } finally {
    await release();
  }
  return path;
}

/** Builds beside the final name and renames, so that an interrupted build leaves nothing that looks finished. */
async function build({ name, path, description, build }: GoProgram, log: Log): Promise<void> {
  const directory = join(path, '..');
  mkdirSync(directory, { recursive: true });
  const temporary = mkdtempSync(join(directory, 'build-'));
  const started = Date.now();
  try {
    log(`building ${description}`);
    await build(temporary);
    renameSync(join(temporary, name), path);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  log(`built ${name} in ${Math.round((Date.now() - started) / 1000)} s`);
}

/** How Go is run. */
export interface GoRun {
  readonly cwd: string;
  /** Besides the environment of this process. */
  readonly env?: NodeJS.ProcessEnv;
  readonly log: Log;
}

/** Runs Go; with `-v` it names each package that it compiles, which is the only progress it tells. */
export async function runGo(args: readonly string[], { cwd, env, log }: GoRun): Promise<void> {
  const child = spawn('go', args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const tail: string[] = [];
  let compiled = 0;
  const timer = setInterval(
    () => log(`  ${compiled} packages compiled, now ${tail.at(-1) ?? 'starting'}`),
    PROGRESS_MS,
  );
  createInterface({ input: child.stderr }).on('line', (line) => {
    compiled += 1;
    tail.push(line);
    if (tail.length > 20) tail.shift();
  });
  const code = await new Promise<number | null>((ended, failed) => {
    child.once('error', failed);
    child.once('close', ended);
  }).finally(() => clearInterval(timer));
  if (code !== 0) throw new Error(`go ${args[0]} ended with ${code}:\n${tail.join('\n')}`);
}

function checkGo(program: string): void {
  const version = /go version go(\d+)\.(\d+)/.exec(
    spawnSync('go', ['version'], { encoding: 'utf8' }).stdout ?? '',
  );
  const [major, minor] = [Number(version?.[1] ?? 0), Number(version?.[2] ?? 0)];
  if (major > LEAST_GO[0] || (major === LEAST_GO[0] && minor >= LEAST_GO[1])) return;
  const found = version === null ? 'there is none on PATH' : `PATH has ${major}.${minor}`;
  throw new Error(
    `${program} has to be built once and needs Go ${LEAST_GO.join('.')} or later; ${found}. ` +
      `Install it (https://go.dev/dl, or the package golang-go of a recent distribution) and run the command again.`,
  );
}
