import { spawnSync } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { ensureBuilt } from './build.js';
import type { Log } from './types.js';

/** Program and leading arguments of each tool. */
export interface Tools {
  readonly etcd: readonly string[];
  readonly 'kube-apiserver': readonly string[];
  readonly 'kube-controller-manager': readonly string[];
  readonly 'kube-scheduler': readonly string[];
  readonly kubectl: readonly string[];
  readonly temporal: readonly string[];
  /** For real nodes. */
  readonly kubelet: readonly string[];
}

/** What has to be there: a cluster or Temporal server of somebody else needs no tool of its own. */
export interface ToolNeeds {
  readonly kubernetes: boolean;
  readonly temporal: boolean;
  /** Whether kubelets are to run. @default false */
  readonly nodes?: boolean;
}

const CONTROL_PLANE = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const;

/** How each program tells its version, and the oldest that works with the stack. */
const VERSIONS = {
  etcd: { args: ['--version'], least: [3, 5] },
  'kube-apiserver': { args: ['--version'], least: [1, 32] },
  'kube-controller-manager': { args: ['--version'], least: [1, 32] },
  'kube-scheduler': { args: ['--version'], least: [1, 32] },
  kubectl: { args: ['version', '--client'], least: [1, 30] },
  temporal: { args: ['--version'], least: [1, 3] },
  kubelet: { args: ['--version'], least: [1, 32] },
} as const satisfies Record<keyof Tools, { args: readonly string[]; least: readonly [number, number] }>;

/** A program on PATH that is new enough. */
interface Found {
  readonly path: string;
  readonly minor: number;
}

/**
 * Finds each tool on `PATH`, else builds it. The three Kubernetes programs come from one place, since a controller
 * manager newer than its API server is not supported.
 */
export async function findTools(
  needs: ToolNeeds,
  log: Log,
  env: NodeJS.ProcessEnv = process.env,
): Promise<Tools> {
  const built = async (name: string): Promise<readonly string[]> => [
    await ensureBuilt('dvflow-control-plane', log),
    name,
  ];
  const unused: readonly string[] = [];
  const kubernetes = needs.kubernetes ? findControlPlane(env) : undefined;
  const tool = async (name: 'etcd' | 'kubectl'): Promise<readonly string[]> => {
    const found = findProgram(name, env);
    return found === undefined ? await built(name) : [found.path];
  };
  const component = async (name: (typeof CONTROL_PLANE)[number]): Promise<readonly string[]> =>
    needs.kubernetes ? (kubernetes?.[name] ?? (await built(name))) : unused;
  const temporal = needs.temporal
    ? (findProgram('temporal', env)?.path ?? (await ensureBuilt('temporal', log)))
    : '';
  return {
    etcd: needs.kubernetes ? await tool('etcd') : unused,
    'kube-apiserver': await component('kube-apiserver'),
    'kube-controller-manager': await component('kube-controller-manager'),
    'kube-scheduler': await component('kube-scheduler'),
    kubectl: await tool('kubectl'),
    temporal: needs.temporal ? [temporal] : unused,
    kubelet: needs.nodes ? await findKubelet(kubernetes !== undefined, built, env) : unused,
  };
}

function findControlPlane(
  env: NodeJS.ProcessEnv,
): Record<(typeof CONTROL_PLANE)[number], readonly string[]> | undefined {
  const found = CONTROL_PLANE.map((name) => findProgram(name, env));
  const [apiserver, manager, scheduler] = found;
  if (!apiserver || !manager || !scheduler) return undefined;
  if (new Set(found.map((program) => program?.minor)).size > 1) return undefined;
  return {
    'kube-apiserver': [apiserver.path],
    'kube-controller-manager': [manager.path],
    'kube-scheduler': [scheduler.path],
  };
}

/** A kubelet must not be newer than the API server: the one on `PATH` goes with an API server of the same version there. */
async function findKubelet(
  foundControlPlane: boolean,
  built: (name: string) => Promise<readonly string[]>,
  env: NodeJS.ProcessEnv,
): Promise<readonly string[]> {
  const found = foundControlPlane ? findProgram('kubelet', env) : undefined;
  const same = found !== undefined && found.minor === findProgram('kube-apiserver', env)?.minor;
  return same ? [found.path] : await built('kubelet');
}

/** The first program of that name on `PATH` if it is new enough; one built without a version (`0.0.0-DEV`) counts as new. */
export function findProgram(name: keyof Tools, env: NodeJS.ProcessEnv): Found | undefined {
  const path = onPath(name, env);
  if (path === undefined) return undefined;
  const { args, least } = VERSIONS[name];
  const result = spawnSync(path, args, {
    encoding: 'utf8',
    env: { ...env, PATH: env['PATH'] },
    timeout: 20_000,
  });
  const version = /(\d+)\.(\d+)\.\d+(-DEV)?/.exec(`${result.stdout}${result.stderr}`);
  if (result.status !== 0 || version === null) return undefined;
  const [major, minor] = [Number(version[1]), Number(version[2])];
  const enough = version[3] !== undefined || major > least[0] || (major === least[0] && minor >= least[1]);
  return enough ? { path, minor } : undefined;
}

function onPath(name: string, env: NodeJS.ProcessEnv): string | undefined {
  const directories = (env['PATH'] ?? '').split(delimiter).filter((directory) => directory !== '');
  return directories.map((directory) => resolve(join(directory, name))).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
