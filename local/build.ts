import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { tryLock } from './lock.js';
import { cacheDirectory, projectRoot } from './paths.js';
import type { Log } from './types.js';

/** Later releases of the command line carry `replace` directives, which `go install` refuses. */
const TEMPORAL_VERSION = 'v1.5.1';
/** The first Go that fetches the toolchain which a module asks for. */
const LEAST_GO = [1, 21] as const;
const PROGRESS_MS = 15_000;

/** A program that the local stack can build. */
export type Buildable = 'dvflow-control-plane' | 'temporal';

/** Kubernetes' version in the control plane's go.mod, such as `v1.35.4`. */
export function kubernetesVersion(): string {
  const text = readFileSync(join(projectRoot(), 'local', 'control-plane', 'go.mod'), 'utf8');
  const version = /^\s*k8s\.io\/kubernetes (v\S+)$/m.exec(text)?.[1];
  if (version === undefined) throw new Error('local/control-plane/go.mod requires no k8s.io/kubernetes');
  return version;
}

/** Where a built program lies, whether it is there or not: a directory for each state of the sources. */
export function builtPath(program: Buildable): string {
  const hash = createHash('sha256').update(TEMPORAL_VERSION);
  for (const file of ['go.mod', 'go.sum', 'main.go']) {
    hash.update(readFileSync(join(projectRoot(), 'local', 'control-plane', file)));
  }
  return join(cacheDirectory(), hash.digest('hex').slice(0, 16), program);
}

/**
 * Builds a program unless it is built; one build runs at a time, others wait for it.
 * @throws when Go is missing, too old, or fails
 */
export async function ensureBuilt(program: Buildable, log: Log): Promise<string> {
  const path = builtPath(program);
  if (existsSync(path)) return path;
  checkGo(program);
  let release = await tryLock(cacheDirectory());
  if (release === undefined) log('waiting for another build to end');
  while (release === undefined) {
    await sleep(500);
    release = await tryLock(cacheDirectory());
  }
  try {
    if (!existsSync(path)) await build(program, path, log);
  } finally {
    await release();
  }
  return path;
}

/** Builds beside the final name and renames, so that an interrupted build leaves nothing that looks finished. */
async function build(program: Buildable, path: string, log: Log): Promise<void> {
  const directory = join(path, '..');
  mkdirSync(directory, { recursive: true });
  const temporary = mkdtempSync(join(directory, 'build-'));
  const started = Date.now();
  try {
    if (program === 'temporal') {
      log(`building temporal ${TEMPORAL_VERSION} (once; some minutes)`);
      const source = `github.com/temporalio/cli/cmd/temporal@${TEMPORAL_VERSION}`;
      await go(['install', '-v', source], temporary, { GOBIN: temporary }, log);
    } else {
      const version = kubernetesVersion();
      log(`building the Kubernetes control plane ${version} (once; some minutes)`);
      const flags = `-s -w -X k8s.io/component-base/version.gitVersion=${version}`;
      const output = join(temporary, program);
      const sources = join(projectRoot(), 'local', 'control-plane');
      await go(['build', '-v', '-trimpath', `-ldflags=${flags}`, '-o', output, '.'], sources, {}, log);
    }
    renameSync(join(temporary, program), path);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  log(`built ${program} in ${Math.round((Date.now() - started) / 1000)} s`);
}

/** Runs Go; with `-v` it names each package that it compiles, which is the only progress it tells. */
async function go(args: readonly string[], cwd: string, env: NodeJS.ProcessEnv, log: Log): Promise<void> {
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

function checkGo(program: Buildable): void {
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
