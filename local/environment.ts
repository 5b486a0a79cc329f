import { existsSync, realpathSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { DEFAULT_PORTS } from './ports.js';
import { layout, stateDirectory } from './paths.js';
import { readState } from './state.js';
import type { StackInfo } from './types.js';

/** What the caller's environment already names instead of the local stack's own. */
export interface Foreign {
  /** Value of `KUBECONFIG`. */
  readonly kubeconfig?: string;
  /** Value of `TEMPORAL_ADDRESS`. */
  readonly temporalAddress?: string;
}

/** Variables of the caller that the stack's processes keep: how to find programs, and how to reach the outside. */
const INHERITED = [
  'PATH', 'HOME', 'USER', 'LOGNAME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR',
  'HTTP_PROXY', 'HTTPS_PROXY', 'http_proxy', 'https_proxy',
  'NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'SSL_CERT_DIR',
] as const; // prettier-ignore

/** Keeps programs from their user's profile file when they are to use the Temporal server of a stack. */
export function ownTemporal(
  directory: string,
): Record<'TEMPORAL_CONFIG_FILE' | 'TEMPORAL_NAMESPACE', string> {
  return { TEMPORAL_CONFIG_FILE: layout(directory).temporalProfile, TEMPORAL_NAMESPACE: 'default' };
}

/** What that file says: one namespace, no TLS. Temporal's TypeScript SDK reads none that is empty, such as `/dev/null`. */
export function temporalProfile(address: string): string {
  return `[profile.default]\naddress = "${address}"\nnamespace = "default"\n`;
}

/** Whether the Temporal server of a stack is its own. */
export function ownsTemporal({ uiUrl }: Pick<StackInfo, 'uiUrl'>): boolean {
  return uiUrl !== '';
}

/** Whether a variable says where a Temporal server is and how one gets in. */
export function namesTemporal(variable: string): boolean {
  return /^TEMPORAL_(ADDRESS|NAMESPACE|API_KEY|TLS|CODEC_|GRPC_META_|PROFILE|CONFIG_FILE)/.test(variable);
}

/** Environment of the stack's processes; settings such as `ETCD_*` of the caller do not reach them. */
export function processEnvironment(env: NodeJS.ProcessEnv = process.env): Record<string, string> {
  const kept = INHERITED.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]] as const]));
  const noProxy = [env['NO_PROXY'] ?? env['no_proxy'], '127.0.0.1', 'localhost'].filter(Boolean).join(',');
  return { ...Object.fromEntries(kept), NO_PROXY: noProxy, no_proxy: noProxy };
}

/** Which of `KUBECONFIG` and `TEMPORAL_ADDRESS` name something other than this stack or the default one. */
export function foreignEnvironment(directory: string, env: NodeJS.ProcessEnv = process.env): Foreign {
  const kubeconfig = env['KUBECONFIG']?.trim();
  const temporalAddress = env['TEMPORAL_ADDRESS']?.trim();
  const own = [directory, stateDirectory(env)];
  return {
    ...(kubeconfig && !own.some((stack) => isOwnKubeconfig(stack, kubeconfig)) ? { kubeconfig } : {}),
    ...(temporalAddress && !own.some((stack) => isOwnAddress(stack, temporalAddress))
      ? { temporalAddress }
      : {}),
  };
}

/**
 * Stops what would use somebody's cluster or Temporal server without being asked to.
 * @throws naming what the environment points at, unless `DVFLOW_USE_CLUSTER=1`
 */
export function refuseForeign(
  purpose: string,
  directory = stateDirectory(),
  env: NodeJS.ProcessEnv = process.env,
): void {
  const foreign = foreignEnvironment(directory, env);
  if (env['DVFLOW_USE_CLUSTER'] === '1') return;
  const named = [
    ...(foreign.kubeconfig === undefined ? [] : [`KUBECONFIG=${foreign.kubeconfig}`]),
    ...(foreign.temporalAddress === undefined ? [] : [`TEMPORAL_ADDRESS=${foreign.temporalAddress}`]),
  ];
  if (named.length === 0) return;
  throw new Error(
    `${named.join(' and ')} of the environment ${named.length > 1 ? 'are' : 'is'} not the local stack's own, and ${purpose} ` +
      `would write there: unset ${named.length > 1 ? 'them' : 'it'}, or set DVFLOW_USE_CLUSTER=1 to use what is named.`,
  );
}

/**
 * Stops a local stack that would be made in somebody's cluster, or whose control role would work on another machine's Temporal server
 * without being asked to: it cancels every run there whose DataVolume its own cluster does not have.
 * @throws naming what the environment points at, unless `DVFLOW_USE_CLUSTER=1`
 */
export function refuseWithoutConsent(
  { kubeconfig, temporalAddress }: Foreign,
  env: NodeJS.ProcessEnv = process.env,
): void {
  if (env['DVFLOW_USE_CLUSTER'] === '1') return;
  if (kubeconfig !== undefined)
    throw new Error(
      `KUBECONFIG=${kubeconfig} is not the local stack's own: unset it to start a local cluster, or set ` +
        `DVFLOW_USE_CLUSTER=1 to use that cluster instead; CRDs, RBAC, policies and a Node are then created there.`,
    );
  if (temporalAddress !== undefined && !LOOPBACK.test(temporalAddress))
    throw new Error(
      `TEMPORAL_ADDRESS=${temporalAddress} is not a Temporal server of this machine: unset it to start a local one, or set ` +
        `DVFLOW_USE_CLUSTER=1 to use that one instead; workers of the local stack then serve its task queues, and end the runs of others.`,
    );
}

/** Addresses of this machine alone. */
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/i;

function isOwnKubeconfig(directory: string, value: string): boolean {
  const own = adminKubeconfig(directory);
  const paths = value.split(delimiter).filter((path) => path !== '');
  return paths.every((path) => real(path) === real(own));
}

function isOwnAddress(directory: string, value: string): boolean {
  const own = readState(directory)?.temporalAddress ?? `127.0.0.1:${DEFAULT_PORTS.temporal}`;
  return value.replace(/^localhost:/, '127.0.0.1:') === own;
}

function real(path: string): string {
  return existsSync(path) ? realpathSync(path) : resolve(path);
}

/** Path of the administrator's kubeconfig of the stack in a directory. */
export function adminKubeconfig(directory: string): string {
  return join(layout(directory).kubeconfigs, 'admin.yaml');
}
