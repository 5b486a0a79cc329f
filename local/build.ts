import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildOnce, runGo } from './go.js';
import { cacheDirectory, projectRoot } from './paths.js';
import type { Log } from './types.js';

/** Later releases of the command line carry `replace` directives, which `go install` refuses. */
const TEMPORAL_VERSION = 'v1.5.1';

/** A program that the local stack can build. */
export type Buildable = 'dvflow-control-plane' | 'temporal';

/** Kubernetes' version in the control plane's go.mod, such as `v1.35.4`. */
export function kubernetesVersion(): string {
  const text = readFileSync(join(projectRoot(), 'local', 'control-plane', 'go.mod'), 'utf8');
  const version = /^\s*k8s\.io\/kubernetes (v\S+)$/m.exec(text)?.[1];
  if (version === undefined) throw new Error('local/control-plane/go.mod requires no k8s.io/kubernetes');
  return version;
}

/** Where a built program lies, whether it is there or not: a directory for each state of its sources. */
export function builtPath(program: Buildable): string {
  const hash = createHash('sha256').update(program === 'temporal' ? TEMPORAL_VERSION : '');
  for (const file of program === 'temporal' ? [] : ['go.mod', 'go.sum', 'main.go']) {
    hash.update(readFileSync(join(projectRoot(), 'local', 'control-plane', file)));
  }
  return join(cacheDirectory(), hash.digest('hex').slice(0, 16), program);
}

/**
 * Builds a program unless it is built; one build runs at a time, others wait for it.
 * @throws when Go is missing, too old, or fails
 */
export async function ensureBuilt(program: Buildable, log: Log): Promise<string> {
  const place = { name: program, path: builtPath(program) };
  if (program === 'temporal') {
    const description = `temporal ${TEMPORAL_VERSION} (once; some minutes)`;
    return await buildOnce(
      { ...place, description, build: (directory) => buildTemporal(directory, log) },
      log,
    );
  }
  const description = `the Kubernetes control plane ${kubernetesVersion()} (once; some minutes)`;
  const build = (directory: string): Promise<void> => buildControlPlane(join(directory, program), log);
  return await buildOnce({ ...place, description, build }, log);
}

async function buildTemporal(directory: string, log: Log): Promise<void> {
  const source = `github.com/temporalio/cli/cmd/temporal@${TEMPORAL_VERSION}`;
  await runGo(['install', '-v', source], { cwd: directory, env: { GOBIN: directory }, log });
}

async function buildControlPlane(output: string, log: Log): Promise<void> {
  const flags = `-s -w -X k8s.io/component-base/version.gitVersion=${kubernetesVersion()}`;
  const cwd = join(projectRoot(), 'local', 'control-plane');
  await runGo(['build', '-v', '-trimpath', `-ldflags=${flags}`, '-o', output, '.'], { cwd, log });
}
