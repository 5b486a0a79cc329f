import type { BigIntStats } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import type { AddressPolicy, ProxySettings, SourceRequest } from '../activities/image/source/types.js';
import { CliError, EXIT } from './errors.js';
import type { ImportSource } from './manifest.js';
import { findMisfit } from './misfits.js';

type Kind = SourceRequest['kind'];

/** How a source is reached from the command line. */
export interface SourceFlags {
  readonly source?: ImportSource;
  readonly checksum?: string;
  readonly caFile?: string;
  readonly insecureSkipVerify?: boolean;
  readonly header?: readonly string[];
  readonly authFile?: string;
  readonly arch?: string;
  readonly proxy?: string;
  readonly noProxyFor?: string;
  readonly deniedSources?: readonly string[];
}

const REMOTE: readonly Kind[] = ['http', 's3', 'gcs', 'registry'];

/** Flags that do nothing for some kinds of source. */
const ONLY_OF = {
  caFile: REMOTE,
  insecureSkipVerify: ['http', 'registry'],
  header: ['http'],
  authFile: ['gcs', 'registry'],
  arch: ['registry'],
  proxy: REMOTE,
  noProxyFor: REMOTE,
} as const satisfies Partial<Record<keyof SourceFlags, readonly Kind[]>>;

/** Environment that command line programs take their proxy from. */
export type ProxyEnvironment = Readonly<Record<string, string | undefined>>;

/**
 * The request that an address and its flags mean: `http(s)://`, `s3://`, `gs://`, `docker://`, `oci-archive:`, or a path.
 * @throws {@link CliError} for flags that do not fit
 */
export async function sourceRequest(
  address: string,
  flags: SourceFlags,
  env: ProxyEnvironment,
): Promise<SourceRequest> {
  const kind = flags.source ?? kindOf(address.trimStart());
  refuseMisfits(kind, flags);
  const checksum = flags.checksum === undefined ? {} : { checksum: flags.checksum };
  if (kind === 'file') return { kind, path: address, ...checksum };
  const shared = {
    url: address,
    ...checksum,
    ...(flags.caFile === undefined ? {} : { ca: await read(flags.caFile) }),
    ...proxyOf(flags, env),
  };
  switch (kind) {
    case 'http': {
      const headers = (flags.header ?? []).map(splitHeader);
      const insecureSkipVerify = flags.insecureSkipVerify ?? false;
      return { kind, ...shared, headers: [], secretHeaders: headers, insecureSkipVerify };
    }
    case 's3':
      // who calls is who the credentials of this process belong to
      return { kind, ...shared, ambient: true };
    case 'gcs': {
      const credentials = flags.authFile === undefined ? {} : { credentials: await read(flags.authFile) };
      return { kind, ...shared, ...credentials };
    }
    case 'registry':
      return {
        kind,
        ...shared,
        insecure: flags.insecureSkipVerify ?? false,
        ...(flags.authFile === undefined ? {} : { dockerConfig: await read(flags.authFile) }),
        ...(flags.arch === undefined ? {} : { architecture: flags.arch }),
      };
  }
}

/** Where the caller may connect: everywhere the caller's machine can, but to what was denied. */
export function callerPolicy({ deniedSources = [] }: SourceFlags): AddressPolicy {
  return { allowed: [], denied: deniedSources, unrestricted: true };
}

/**
 * A disk cannot be read from the file that it is written to: what is read would be written over, by another name as well.
 * @throws {@link CliError}
 */
export async function refuseSame(request: SourceRequest, target: string): Promise<void> {
  const source = await localFileOf(request);
  if (source === undefined) return;
  const [from, to] = await Promise.all(
    [source, target].map((path) => stat(path, { bigint: true }).catch(() => undefined)),
  );
  if (from && to && isSame(from, to))
    throw new CliError(`${target} is the source itself: the disk needs a file of its own`, EXIT.usage);
}

async function localFileOf(request: SourceRequest): Promise<string | undefined> {
  if (request.kind === 'file') return request.path;
  if (request.kind !== 'registry') return undefined;
  const { parseReference } = await import('../activities/image/registry/reference.js');
  const reference = parseReference(request.url);
  return reference.kind === 'oci-archive' ? reference.path : undefined;
}

function isSame(from: BigIntStats, to: BigIntStats): boolean {
  return from.isBlockDevice() ? from.rdev === to.rdev : from.dev === to.dev && from.ino === to.ino;
}

/** A flag that does nothing is a misunderstanding, and some of them are about whom to trust. */
function refuseMisfits(kind: Kind, flags: SourceFlags): void {
  const misfit = findMisfit<Kind>(kind, flags, ONLY_OF);
  if (!misfit) return;
  const { flag, kinds } = misfit;
  throw new CliError(`${flag} is for sources of kind ${kinds.join(', ')}; this is ${kind}`, EXIT.usage);
}

function kindOf(address: string): Kind {
  if (/^https?:\/\//iu.test(address)) return 'http';
  if (/^s3:\/\//iu.test(address)) return 's3';
  if (/^gs:\/\//iu.test(address)) return 'gcs';
  if (/^(?:docker:\/\/|oci-archive:)/u.test(address)) return 'registry';
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//iu.exec(address)?.[1];
  if (scheme !== undefined)
    throw new CliError(
      `source has scheme ${scheme}: http, https, s3, gs, docker, oci-archive or a path is expected`,
      EXIT.usage,
    );
  // by a slip of one key a password would be part of a path, which messages show
  if (/^(?:https?|s3|gs|docker):|^\/\/[^/]*@/iu.test(address))
    throw new CliError('source is an address without :// between its scheme and its host', EXIT.usage);
  return 'file';
}

function splitHeader(line: string): readonly [string, string] {
  const colon = line.indexOf(':');
  if (colon <= 0) throw new CliError('a --header is Name: value', EXIT.usage);
  return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
}

function proxyOf({ proxy, noProxyFor }: SourceFlags, env: ProxyEnvironment): { proxy?: ProxySettings } {
  const named = (name: string): string | undefined => env[name] || env[name.toUpperCase()] || undefined;
  const http = proxy ?? named('http_proxy');
  const https = proxy ?? named('https_proxy');
  if (http === undefined && https === undefined) return {};
  const direct = noProxyFor ?? named('no_proxy');
  return {
    proxy: {
      ...(http === undefined ? {} : { http }),
      ...(https === undefined ? {} : { https }),
      ...(direct === undefined ? {} : { noProxy: direct }),
    },
  };
}

async function read(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new CliError(`${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`, EXIT.usage, {
      cause: error,
    });
  }
}
