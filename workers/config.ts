import { BlockList, isIP } from 'node:net';
import { hostname } from 'node:os';
import { isAbsolute } from 'node:path';
import type { AddressPolicy } from '../activities/image/source/types.js';
import { plainPath } from '../activities/without-end.js';

/** Everything that a worker can be told from outside; the table in `docs/operations.md` is checked against {@link SETTINGS}. */
export interface WorkerConfig {
  /** Name of the Kubernetes node this worker serves. */
  readonly nodeName: string;
  readonly policy: AddressPolicy;
  /** S3 sources without a Secret may use this worker's own AWS credentials. */
  readonly ambientCredentials: boolean;
  /** Transfers at once on this node. */
  readonly transferSlots: number;
  /** Where `/healthz` and `/readyz` are served; absent: nowhere. */
  readonly healthAddress?: HostPort;
  /** Where Prometheus metrics are served; absent: nowhere. */
  readonly metricsAddress?: string;
  readonly logLevel: LogLevel;
  /** Namespace of Secret copies. */
  readonly transferNamespace: string;
  /** Path of the kubeconfig; absent: the pod's ServiceAccount, else the user's default. */
  readonly kubeconfig?: string;
  /** Age below which the sweeper removes nothing, in ms. */
  readonly sweepGraceMs: number;
  /** Where a node worker keeps what lies in no pool; absolute, on a file system that survives a reboot. */
  readonly stateDirectory: string;
  /** Where a node worker links the loop devices that it makes; absolute, on a file system that is empty after a reboot. */
  readonly deviceDirectory: string;
  /** Where this node's kernel shows SELinux. */
  readonly selinuxfs: string;
  /** Where a node worker serves its data port; absent: nowhere, and nothing is received or handed out there. */
  readonly dataPortAddress?: HostPort;
  /** Host by which others reach the data port; absent: that of the address. */
  readonly dataPortHost?: string;
  /** Directory with this role's certificate for data ports; absent: none. */
  readonly tlsDirectory?: string;
  /** Where the gateway serves; absent: nowhere. */
  readonly gatewayAddress?: HostPort;
  /** Directory with the certificate that the gateway serves with; absent: that of data ports. */
  readonly gatewayTlsDirectory?: string;
  /** Bodies that a gateway moves at once. */
  readonly uploadSlots: number;
  /** Where clients reach the gateway, for CDIConfig; absent: it is not told. */
  readonly uploadProxyUrl?: string;
  /** The control role keeps the certificates of data ports in Secrets. */
  readonly tlsSecrets: boolean;
  /** The control role takes a Temporal namespace over from the cluster that had it. */
  readonly takeNamespace: boolean;
}

/** Address to listen on. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Pino's names of the levels that are offered. */
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error';

/** Environment variables, their defaults and meanings. */
export const SETTINGS = {
  DVFLOW_NODE_NAME: { default: 'the host name', meaning: 'Kubernetes node that a node worker serves' },
  DVFLOW_ALLOWED_SOURCES: {
    default: '',
    meaning: 'CIDRs that sources may be in although refused by default, comma separated',
  },
  DVFLOW_DENIED_SOURCES: { default: '', meaning: 'CIDRs that sources may not be in, comma separated' },
  DVFLOW_AMBIENT_CREDENTIALS: {
    default: 'false',
    meaning: "true: S3 sources without a Secret use the workers' own AWS credentials",
  },
  DVFLOW_TRANSFER_SLOTS: { default: '2', meaning: 'transfers at once on a node' },
  DVFLOW_HEALTH_ADDRESS: { default: '', meaning: 'host:port of /healthz and /readyz' },
  DVFLOW_METRICS_ADDRESS: { default: '', meaning: 'host:port of the Prometheus metrics' },
  DVFLOW_LOG_LEVEL: { default: 'info', meaning: 'trace, debug, info, warn or error' },
  DVFLOW_TRANSFER_NAMESPACE: { default: 'dvflow-transfers', meaning: 'namespace of the copies of Secrets' },
  DVFLOW_STATE_DIRECTORY: {
    default: '/var/lib/dvflow',
    meaning: 'directory of the node for records of volumes outside of pools, and of the pools that it knows',
  },
  DVFLOW_DEVICE_DIRECTORY: {
    default: '/dev/dvflow',
    meaning: 'directory of the node for links to loop devices; empty after a reboot',
  },
  DVFLOW_SELINUX_PATH: {
    default: '/sys/fs/selinux',
    meaning: "where a node's kernel shows SELinux; in a container the node's own must be mounted",
  },
  DVFLOW_DATA_PORT_ADDRESS: {
    default: '',
    meaning: 'host:port of the data port of a node worker, by which uploads and clones from other nodes come',
  },
  DVFLOW_DATA_PORT_HOST: {
    default: 'that of the address',
    meaning: 'host by which others reach the data port: the address of the pod',
  },
  DVFLOW_TLS_DIRECTORY: {
    default: '',
    meaning: "directory with ca.crt, tls.crt and tls.key, this role's certificate for data ports",
  },
  DVFLOW_GATEWAY_ADDRESS: {
    default: '',
    meaning: 'host:port of the gateway, by which uploads and requests for upload tokens come',
  },
  DVFLOW_GATEWAY_TLS_DIRECTORY: {
    default: 'DVFLOW_TLS_DIRECTORY',
    meaning: 'directory with tls.crt and tls.key that the gateway serves with',
  },
  DVFLOW_UPLOAD_SLOTS: { default: '8', meaning: 'uploads that a gateway moves at once' },
  DVFLOW_UPLOAD_PROXY_URL: {
    default: '',
    meaning:
      'where clients reach the gateway, which the control role tells in status.uploadProxyURL of CDIConfig',
  },
  DVFLOW_TLS_SECRETS: {
    default: 'false',
    meaning: 'true: the control role makes and renews the certificates of data ports in their Secrets',
  },
  DVFLOW_TAKE_TEMPORAL_NAMESPACE: {
    default: 'false',
    meaning: 'true: the control role takes the Temporal namespace over from the cluster that had it',
  },
  DVFLOW_SWEEP_GRACE_MS: { default: '600000', meaning: 'age in ms below which the sweeper removes nothing' },
} as const satisfies Record<string, { default: string; meaning: string }>;

type Setting = keyof typeof SETTINGS;

const LOG_LEVELS: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error'];

/**
 * Reads the whole configuration from the environment, the only place that does.
 * @throws Error naming every problem at once, before anything connects
 */
export function readConfig(env: NodeJS.ProcessEnv = process.env): WorkerConfig {
  const problems: string[] = [];
  const read = (name: Setting): string => env[name]?.trim() || SETTINGS[name].default;
  const check = <T>(name: Setting, parse: (text: string) => T): T | undefined => {
    try {
      return parse(read(name));
    } catch (error) {
      problems.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      return undefined;
    }
  };
  const healthAddress = check('DVFLOW_HEALTH_ADDRESS', optional(parseHostPort));
  const metricsAddress = check('DVFLOW_METRICS_ADDRESS', optional(parseHostPort));
  const allowed = check('DVFLOW_ALLOWED_SOURCES', parseCidrs);
  const denied = check('DVFLOW_DENIED_SOURCES', parseCidrs);
  const ambientCredentials = check('DVFLOW_AMBIENT_CREDENTIALS', parseBoolean);
  const transferSlots = check('DVFLOW_TRANSFER_SLOTS', (text) => parseInteger(text, 1, 64));
  const sweepGraceMs = check('DVFLOW_SWEEP_GRACE_MS', (text) => parseInteger(text, 0, 86_400_000));
  const stateDirectory = check('DVFLOW_STATE_DIRECTORY', parseDirectory);
  const deviceDirectory = check('DVFLOW_DEVICE_DIRECTORY', parseDirectory);
  const dataPortAddress = check('DVFLOW_DATA_PORT_ADDRESS', optional(parseHostPort));
  const tlsDirectory = check('DVFLOW_TLS_DIRECTORY', optional(parseDirectory));
  const gatewayTlsDirectory = check('DVFLOW_GATEWAY_TLS_DIRECTORY', (text) =>
    text === 'DVFLOW_TLS_DIRECTORY' ? tlsDirectory : parseDirectory(text),
  );
  const gatewayAddress = check('DVFLOW_GATEWAY_ADDRESS', optional(parseHostPort));
  const uploadSlots = check('DVFLOW_UPLOAD_SLOTS', (text) => parseInteger(text, 1, 1024));
  const uploadProxyUrl = check('DVFLOW_UPLOAD_PROXY_URL', optional(parseProxyUrl));
  const tlsSecrets = check('DVFLOW_TLS_SECRETS', parseBoolean);
  const takeNamespace = check('DVFLOW_TAKE_TEMPORAL_NAMESPACE', parseBoolean);
  const logLevel = check('DVFLOW_LOG_LEVEL', parseLogLevel);
  if (problems.length > 0) throw new Error(`configuration: ${problems.join('; ')}`);
  return {
    nodeName: env.DVFLOW_NODE_NAME?.trim() || hostname().toLowerCase(),
    policy: { allowed: allowed ?? [], denied: denied ?? [] },
    ambientCredentials: ambientCredentials ?? false,
    transferSlots: transferSlots ?? 2,
    ...(healthAddress ? { healthAddress } : {}),
    ...(env.KUBECONFIG ? { kubeconfig: env.KUBECONFIG } : {}),
    ...(metricsAddress ? { metricsAddress: `${metricsAddress.host}:${metricsAddress.port}` } : {}),
    logLevel: logLevel ?? 'info',
    transferNamespace: read('DVFLOW_TRANSFER_NAMESPACE'),
    sweepGraceMs: sweepGraceMs ?? 600_000,
    stateDirectory: stateDirectory ?? '',
    deviceDirectory: deviceDirectory ?? '',
    selinuxfs: read('DVFLOW_SELINUX_PATH'),
    ...(dataPortAddress ? { dataPortAddress } : {}),
    ...(env.DVFLOW_DATA_PORT_HOST?.trim() ? { dataPortHost: env.DVFLOW_DATA_PORT_HOST.trim() } : {}),
    ...(tlsDirectory ? { tlsDirectory } : {}),
    ...(gatewayAddress ? { gatewayAddress } : {}),
    ...(gatewayTlsDirectory ? { gatewayTlsDirectory } : {}),
    uploadSlots: uploadSlots ?? 8,
    ...(uploadProxyUrl ? { uploadProxyUrl } : {}),
    tlsSecrets: tlsSecrets ?? false,
    takeNamespace: takeNamespace ?? false,
  };
}

function optional<T>(parse: (text: string) => T): (text: string) => T | undefined {
  return (text) => (text === '' ? undefined : parse(text));
}

function parseHostPort(text: string): HostPort {
  const match = /^(?:\[(?<six>[^\]]+)\]|(?<host>[^:]*)):(?<port>\d{1,5})$/.exec(text);
  const port = Number(match?.groups?.port);
  if (!match || port > 65_535) throw new Error(`'${text}' is not host:port`);
  return { host: match.groups?.six ?? (match.groups?.host || '0.0.0.0'), port };
}

function parseCidrs(text: string): readonly string[] {
  const cidrs = text.split(',').map((part) => part.trim());
  return cidrs.filter((cidr) => cidr !== '').map(parseCidr);
}

function parseCidr(text: string): string {
  const [address = '', prefix] = text.split('/');
  const family = isIP(address);
  const bits = prefix === undefined ? (family === 6 ? 128 : 32) : Number(prefix);
  if (family === 0 || !Number.isInteger(bits)) throw new Error(`'${text}' is not a CIDR`);
  // Judges the prefix length by the family.
  new BlockList().addSubnet(address, bits, family === 6 ? 'ipv6' : 'ipv4');
  return `${address}/${bits}`;
}

function parseBoolean(text: string): boolean {
  if (text !== 'true' && text !== 'false') throw new Error(`'${text}' is neither true nor false`);
  return text === 'true';
}

function parseInteger(text: string, least: number, most: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least || value > most)
    throw new Error(`'${text}' is not a whole number from ${least} to ${most}`);
  return value;
}

function parseDirectory(text: string): string {
  const plain = plainPath(text);
  if (!isAbsolute(plain)) throw new Error(`'${text}' is not an absolute path below /`);
  return plain;
}

/** A host, or an `https` URL: clients put `https://` before a host. */
function parseProxyUrl(text: string): string {
  const url = URL.parse(text.includes('://') ? text : `https://${text}`);
  if (url?.protocol !== 'https:' || !url.hostname)
    throw new Error(`'${text}' is neither a host nor an https URL`);
  return text;
}

function parseLogLevel(text: string): LogLevel {
  const level = LOG_LEVELS.find((known) => known === text);
  if (!level) throw new Error(`'${text}' is none of ${LOG_LEVELS.join(', ')}`);
  return level;
}
