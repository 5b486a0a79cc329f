import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The directory of the package: the nearest one above this file that holds dvflow's package.json. */
export function projectRoot(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!isPackage(directory)) {
    const parent = dirname(directory);
    if (parent === directory)
      throw new Error(`no package.json of dvflow above ${fileURLToPath(import.meta.url)}`);
    directory = parent;
  }
  return directory;
}

function isPackage(directory: string): boolean {
  const file = join(directory, 'package.json');
  return existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { name?: string }).name === 'dvflow';
}

/**
 * Where the local stack keeps its state: `DVFLOW_LOCAL_DIR`, else below `XDG_STATE_HOME`, else below `~/.local/state`.
 * Root's own default is `/var/lib/dvflow-local`: transfers run as uid 107, which cannot enter root's home, and a pool may not lie
 * below `/var/lib/dvflow`, which is the workers' own.
 */
export function stateDirectory(env: NodeJS.ProcessEnv = process.env): string {
  if (env['DVFLOW_LOCAL_DIR']) return resolve(env['DVFLOW_LOCAL_DIR']);
  if (env['XDG_STATE_HOME']) return resolve(env['XDG_STATE_HOME'], 'dvflow', 'local');
  if (process.getuid?.() === 0) return '/var/lib/dvflow-local';
  return join(homedir(), '.local', 'state', 'dvflow', 'local');
}

/** Where built tools are kept: below `XDG_CACHE_HOME`, else below `~/.cache`. */
export function cacheDirectory(env: NodeJS.ProcessEnv = process.env): string {
  const base = env['XDG_CACHE_HOME'] ? resolve(env['XDG_CACHE_HOME']) : join(homedir(), '.cache');
  return join(base, 'dvflow');
}

/** Every path inside one state directory. */
export function layout(directory: string): {
  readonly pki: string;
  /** Certificates of data ports, and of those who use them. */
  readonly dataPortPki: string;
  readonly kubeconfigs: string;
  readonly tokens: string;
  readonly logs: string;
  readonly etcd: string;
  readonly temporal: string;
  /** Profile file of the stack's own Temporal server. */
  readonly temporalProfile: string;
  readonly pool: string;
  readonly workers: string;
  readonly nodes: string;
  readonly volumes: string;
  readonly state: string;
} {
  return {
    pki: join(directory, 'pki'),
    dataPortPki: join(directory, 'pki', 'data-port'),
    kubeconfigs: join(directory, 'kubeconfigs'),
    tokens: join(directory, 'tokens'),
    logs: join(directory, 'logs'),
    etcd: join(directory, 'etcd'),
    temporal: join(directory, 'temporal'),
    temporalProfile: join(directory, 'temporal.toml'),
    pool: join(directory, 'pool'),
    workers: join(directory, 'workers'),
    nodes: join(directory, 'nodes'),
    volumes: join(directory, 'volumes'),
    state: join(directory, 'state.json'),
  };
}
