/** The real virtctl of several releases of KubeVirt, unmodified, from the Go module proxy; built once into the cache of the stack's tools. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildOnce, runGo } from '../../local/go.js';
import { cacheDirectory, projectRoot } from '../../local/paths.js';
import { chosen } from './breadth.js';

/**
 * Releases that differ the most of the eras of `clients.md` §1.3 whose modules the proxy serves: v1alpha1 with claims of its own making,
 * v1beta1 with v1alpha1 paths, and populators.
 */
const VIRTCTL_VERSIONS = ['v0.36.0', 'v0.49.0', 'v1.7.0'] as const;

/** Releases that `npm test` builds, which takes minutes each: the one that the chapters of the documents run, and today's. */
export const BUILT_VIRTCTL_VERSIONS = chosen(VIRTCTL_VERSIONS, (one) => one !== 'v0.49.0');

/** Those of them that everything is tried with which no chapter tells. */
export const TRIED_VIRTCTL_VERSIONS = chosen(VIRTCTL_VERSIONS, (one) => one === 'v1.7.0');

/** Releases of the eras between and after those, which long tests try: v1alpha1 that waits for DataVolumes, and tokens that are asked for again. */
export const OTHER_VIRTCTL_VERSIONS = ['v0.41.0', 'v1.9.0'] as const;

/** A release with a directory here. Some of the modules that it names are gone; `stubs/` stands for those, and uploads need none of them. */
export type VirtctlVersion = (typeof VIRTCTL_VERSIONS | typeof OTHER_VIRTCTL_VERSIONS)[number];

const PACKAGE = 'kubevirt.io/kubevirt/cmd/virtctl';

/** Path of virtctl. */
export async function buildVirtctl(version: VirtctlVersion): Promise<string> {
  const cwd = join(projectRoot(), 'test', 'support', 'virtctl', version);
  const hash = createHash('sha256');
  for (const file of ['go.mod', 'go.sum', ...stubSources(cwd)]) hash.update(readFileSync(join(cwd, file)));
  const name = `virtctl-${version}`;
  const log = (line: string): void => console.log(`    ${line}`);
  return await buildOnce(
    {
      name,
      path: join(cacheDirectory(), hash.digest('hex').slice(0, 16), name),
      description: `virtctl ${version} (once; some minutes)`,
      build: (into) =>
        runGo(['build', '-v', '-trimpath', '-ldflags=-s -w', '-o', join(into, name), PACKAGE], { cwd, log }),
    },
    log,
  );
}

/** Go files of the stubs; most have none. */
function stubSources(cwd: string): readonly string[] {
  const stubs = join(cwd, 'stubs');
  if (!existsSync(stubs)) return [];
  const files = readdirSync(stubs, { recursive: true, encoding: 'utf8' });
  return files
    .filter((file) => file.endsWith('.go'))
    .sort()
    .map((file) => join('stubs', file));
}

/** How a command ended. */
export interface Ended {
  readonly code: number | null;
  /** Standard output and standard error, as they came. */
  readonly output: string;
}

/** Every upload of a test ends long before, and a test's own timeout cannot say where it hangs. In ms. */
const VIRTCTL_MS = 90_000;

/** Runs virtctl against a cluster. One that does not end is ended, and `describe` says in the output what it may have waited for. */
export async function runVirtctl(
  path: string,
  kubeconfig: string,
  args: readonly string[],
  describe: () => Promise<string>,
): Promise<Ended> {
  const child = spawn(path, [...args], {
    env: { PATH: process.env.PATH ?? '', HOME: process.env.HOME ?? '', KUBECONFIG: kubeconfig },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  let stuck: Promise<string> | undefined;
  const timer = setTimeout(() => {
    stuck = describe();
    child.kill('SIGKILL');
  }, VIRTCTL_MS);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  }).finally(() => clearTimeout(timer));
  if (stuck) output += `\nvirtctl has not ended after ${VIRTCTL_MS / 1000} s\n${await stuck}`;
  return { code, output };
}
