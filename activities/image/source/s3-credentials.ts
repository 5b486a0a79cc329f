import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { permanentFailure, transientFailure } from '../../failures.js';
import type { S3Request } from './types.js';

/** Keys that a request is signed with. */
export interface S3Keys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  /** When the session ends. */
  readonly expiration?: Date;
}

/** Hands out keys; `refused`: those of before were not taken. `undefined`: there are none, requests are anonymous. */
export type S3KeyProvider = (refused: boolean) => Promise<S3Keys | undefined>;

/** Where the kernel tells whose machine this is: AWS's own way to recognise an EC2 instance without a request. */
const VENDOR_FILES = [
  '/sys/class/dmi/id/sys_vendor',
  '/sys/devices/virtual/dmi/id/sys_vendor',
  '/sys/hypervisor/uuid',
];

/** Variables that name who hands out credentials; a profile may hold a region only. */
const NAMING = [
  'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
  'AWS_CONTAINER_CREDENTIALS_FULL_URI',
  'AWS_WEB_IDENTITY_TOKEN_FILE',
];

/** Keys of a profile that do. */
const GIVER =
  /^\s*(?:credential_process|credential_source|login_session|role_arn|sso_\w+|web_identity_token_file)\s*=/u;

/** Of every EC2 instance. */
const METADATA_SERVICE = 'http://169.254.169.254';
/** How long the SDK waits for it, in ms. */
const METADATA_MS = 1_000;

/**
 * The keys of a request: its own; else, if it says `ambient`, what the AWS SDK's default chain finds, whose answer to "are there
 * any" stands once it is given; else none.
 *
 * The chain ends at the instance metadata address, which is link-local and refused to sources (`design.md` §7.8), and which on
 * other machines than EC2's nobody answers. It is asked only where the kernel says that this is an EC2 instance, or the
 * environment names another address for it (`AWS_EC2_METADATA_SERVICE_ENDPOINT`). Credentials that the environment or the
 * instance say there are, and that cannot be had now, are a failure: an anonymous request would be refused for good.
 *
 * @throws `InvalidDataVolume` for half a pair of keys.
 */
export function createS3Keys(request: S3Request, timeoutMs: number): S3KeyProvider {
  const { accessKeyId, secretKey, ambient = false } = request;
  if (accessKeyId && secretKey) return async () => ({ accessKeyId, secretAccessKey: secretKey });
  if (accessKeyId || secretKey) {
    throw permanentFailure('InvalidDataVolume', 'S3 credentials need both accessKeyId and secretKey');
  }
  return ambient ? createAmbientKeys(timeoutMs) : async () => undefined;
}

function createAmbientKeys(timeoutMs: number): S3KeyProvider {
  let chain: Promise<AmbientChain> | undefined;
  let none = false;
  return async (refused) => {
    if (none) return undefined;
    const ask = await (chain ??= loadChain());
    try {
      return await inTime(ask(refused), timeoutMs);
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'CredentialsProviderError') throw unusable(error);
      // the chain calls it so, too, when whoever hands them out has no answer at the moment
      if (refused || (await isNamed()) || (await isInstanceBusy())) throw unusable(error);
      none = true;
      return undefined;
    }
  };
}

type AmbientChain = (refused: boolean) => Promise<S3Keys>;

/** The chain comes with the S3 client, and renews what ends by itself. */
async function loadChain(): Promise<AmbientChain> {
  // the chain has no other switch than its environment variable
  if (!(await isMetadataServiceHere())) process.env['AWS_EC2_METADATA_DISABLED'] ??= 'true';
  const { S3Client } = await import('@aws-sdk/client-s3');
  // where the chain asks STS; nothing else is asked by this client
  const region = process.env['AWS_REGION'] || process.env['AWS_DEFAULT_REGION'] || 'us-east-1';
  // handed on to the chain: files that are rotated are read anew by every source, and not once in the life of this process
  const own = { region, ignoreCache: true };
  const { config } = new S3Client(own);
  return async (refused) => config.credentials(refused ? { forceRefresh: true } : {});
}

async function isMetadataServiceHere(): Promise<boolean> {
  if (process.env['AWS_EC2_METADATA_SERVICE_ENDPOINT']) return true;
  const texts = await Promise.all(VENDOR_FILES.map((path) => readFile(path, 'utf8').catch(() => '')));
  return texts.some((text) => /^(?:Amazon EC2|ec2)/u.test(text));
}

/** Whether the environment, or the profile that it names, says that there are credentials, and who hands them out. */
async function isNamed(): Promise<boolean> {
  const { env } = process;
  if (NAMING.some((name) => (env[name] ?? '') !== '')) return true;
  const files = [
    env['AWS_CONFIG_FILE'] || join(homedir(), '.aws', 'config'),
    env['AWS_SHARED_CREDENTIALS_FILE'] || join(homedir(), '.aws', 'credentials'),
  ];
  const texts = await Promise.all(files.map((file) => readFile(file, 'utf8').catch(() => '')));
  return texts.some((text) => namesGiver(text, env['AWS_PROFILE'] || 'default'));
}

/** Whether a profile's section of one of the AWS files leads to somebody who hands out keys, as the SDK's chain reads it. */
function namesGiver(text: string, profile: string): boolean {
  let inside = false;
  return text.split('\n').some((line) => {
    const [, section] = /^\s*\[\s*(?:profile\s+)?["']?([^\]"']*?)["']?\s*\]/u.exec(line) ?? [];
    if (section !== undefined) inside = section === profile;
    return inside && GIVER.test(line);
  });
}

/**
 * Whether the metadata service of an EC2 instance (IMDSv2) has no answer for the moment, or has a role after all. 404 is its word for
 * no role, and 403 for a service that is switched off; one that is not reached in the SDK's own time, as from a pod behind the default
 * limit of hops, has nothing for this process.
 */
async function isInstanceBusy(): Promise<boolean> {
  const disabled = process.env['AWS_EC2_METADATA_DISABLED'] ?? '';
  // as the SDK reads it
  if (disabled !== '' && disabled !== 'false') return false;
  const endpoint = process.env['AWS_EC2_METADATA_SERVICE_ENDPOINT'] ?? METADATA_SERVICE;
  const ask = (path: string, method: string, headers: Readonly<Record<string, string>>): Promise<Response> =>
    fetch(new URL(path, endpoint), { method, headers, signal: AbortSignal.timeout(METADATA_MS) });
  try {
    const token = await ask('/latest/api/token', 'PUT', { 'x-aws-ec2-metadata-token-ttl-seconds': '60' });
    if (!token.ok) return isPassing(token.status);
    const headers = { 'x-aws-ec2-metadata-token': await token.text() };
    const role = await ask('/latest/meta-data/iam/security-credentials/', 'GET', headers);
    return role.ok || isPassing(role.status);
  } catch {
    return false;
  }
}

const isPassing = (status: number): boolean => status === 429 || status >= 500;

async function inTime<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('timeout')), timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Errors of token services that pass: too many requests, an identity provider that was not reached, a token that its giver renews. */
const PASSING = /Throttl|TooManyRequests|IDPCommunication|ExpiredToken/u;

/** What an error of the chain may hold. */
interface ChainError extends NodeJS.ErrnoException {
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $retryable?: object;
}

/** Names the error, and the file that it is about, only: what a token service answers may quote what it was sent. */
function unusable(error: unknown): Error {
  const known: ChainError | undefined = error instanceof Error ? error : undefined;
  const text = `the ambient AWS credentials of this process cannot be had: ${known ? namesOf(known) : 'unknown error'}`;
  const { $metadata: { httpStatusCode: status = 0 } = {}, $retryable, name = '' } = known ?? {};
  const passes = $retryable !== undefined || PASSING.test(name) || status === 408 || status === 429;
  if (!passes && status >= 400 && status < 500) return permanentFailure('SourceForbidden', text);
  return transientFailure('SourceUnavailable', text);
}

/** `Error (EACCES, /var/run/secrets/token)`. */
function namesOf({ name, code, path }: ChainError): string {
  const known = typeof code === 'string' && /^[A-Z][A-Z\d_]*$/u.test(code) ? [code] : [];
  if (known.length > 0 && typeof path === 'string') known.push(path);
  return known.length > 0 ? `${name} (${known.join(', ')})` : name;
}
