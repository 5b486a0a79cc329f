/** What a DataVolume's source means, with everything that its Secrets, its ConfigMaps and CDI's configuration say. */
import type { V1Secret } from '@kubernetes/client-node';
import { permanentFailure } from '../failures.js';
import { parseReference } from '../image/registry/reference.js';
import { parseChecksum } from '../image/source/checksum.js';
import type {
  GcsRequest,
  HttpRequest,
  RegistryRequest,
  S3Request,
  SourceRequest,
} from '../image/source/types.js';
import type { Missing } from '../types.js';
import { isInsecureRegistry, proxyOf } from './import-network.js';
import { createNamedObjects, type Lookup, type NamedObjects } from './named-objects.js';
import type {
  CdiConfig,
  DataVolume,
  GcsSource,
  HttpSource,
  ImportSources,
  RegistrySource,
  S3Source,
} from './objects.js';
import { bundleOf, refuseWithout, valueOf } from './secret-values.js';

/** Key of a Secret of type `kubernetes.io/dockerconfigjson`. */
const DOCKER_CONFIG = '.dockerconfigjson';

/** What the request depends on besides the DataVolume. */
export interface RequestContext {
  /** Reads Secrets and ConfigMaps. */
  readonly lookup: Lookup;
  /** Namespace of the DataVolume, and thus of what it names. */
  readonly namespace: string;
  readonly config?: CdiConfig | undefined;
  /** S3 sources without a Secret may use the workers' own AWS credentials. @default false */
  readonly ambientCredentials?: boolean | undefined;
}

/**
 * The request that a source means, or what is missing for it.
 *
 * @throws {@link FailureType} `UnsupportedSource`; `InvalidDataVolume` for a malformed checksum or reference, a Secret without
 * the keys that its source needs, a ConfigMap without a certificate
 */
export async function buildSourceRequest(
  source: NonNullable<DataVolume['spec']['source']>,
  context: RequestContext,
): Promise<SourceRequest | Missing> {
  const named = createNamedObjects(context.lookup, context.namespace);
  const request = await requestOf(source, named, context);
  return named.missing.length > 0 ? { missing: named.missing } : request;
}

async function requestOf(
  { http, s3, gcs, registry }: ImportSources,
  named: NamedObjects,
  context: RequestContext,
): Promise<SourceRequest> {
  if (http) return await httpRequest(http, named, context);
  if (s3) return await s3Request(s3, named, context);
  if (gcs) return await gcsRequest(gcs, named, context);
  if (registry) return await registryRequest(registry, named, context);
  throw permanentFailure('UnsupportedSource', 'the DataVolume has no source that images are imported from');
}

async function httpRequest(
  source: HttpSource,
  named: NamedObjects,
  context: RequestContext,
): Promise<HttpRequest> {
  const basic = await named.secret(source.secretRef);
  const network = await networkOf(source, named, context);
  const secretHeaders: (readonly [string, string])[] = [];
  for (const name of source.secretExtraHeaders ?? []) {
    const secret = await named.secret(name);
    for (const key of Object.keys(secret?.data ?? {}).sort())
      secretHeaders.push(...splitHeader(valueOf(secret, key)));
  }
  return {
    kind: 'http',
    url: source.url,
    ...loginOf(basic),
    headers: (source.extraHeaders ?? []).flatMap(splitHeader),
    secretHeaders,
    ...network,
    insecureSkipVerify: source.insecureSkipVerify ?? false,
  };
}

async function s3Request(source: S3Source, named: NamedObjects, context: RequestContext): Promise<S3Request> {
  const secret = await named.secret(source.secretRef);
  if (secret) refuseWithout(secret, ['accessKeyId', 'secretKey']);
  const keys = { accessKeyId: valueOf(secret, 'accessKeyId'), secretKey: valueOf(secret, 'secretKey') };
  return {
    kind: 's3',
    url: source.url,
    ...(secret ? keys : {}),
    ...(!source.secretRef && context.ambientCredentials ? { ambient: true } : {}),
    ...(await networkOf(source, named, context)),
  };
}

async function gcsRequest(
  source: GcsSource,
  named: NamedObjects,
  context: RequestContext,
): Promise<GcsRequest> {
  const secret = await named.secret(source.secretRef);
  if (secret) refuseWithout(secret, ['credentials.json']);
  return {
    kind: 'gcs',
    url: source.url,
    ...(secret ? { credentials: valueOf(secret, 'credentials.json') } : {}),
    ...(await networkOf(source, named, context)),
  };
}

async function registryRequest(
  source: RegistrySource,
  named: NamedObjects,
  context: RequestContext,
): Promise<RegistryRequest> {
  const { url = '', platform } = source;
  const reference = parseReference(url);
  // a file of this machine is not the user's
  if (reference.kind !== 'docker')
    throw permanentFailure('UnsupportedSource', `${reference.kind}: names a file of this machine`);
  const secret = await named.secret(source.secretRef);
  return {
    kind: 'registry',
    url,
    ...(secret ? registryLoginOf(secret) : {}),
    insecure: isInsecureRegistry(context.config, reference.domain),
    ...(platform?.architecture ? { architecture: platform.architecture } : {}),
    ...(await networkOf(source, named, context)),
  };
}

/** What requests to every server have. */
async function networkOf(
  { certConfigMap, checksum }: Pick<S3Source, 'certConfigMap' | 'checksum'>,
  named: NamedObjects,
  { config }: RequestContext,
): Promise<Pick<HttpRequest, 'ca' | 'checksum' | 'proxy'>> {
  const certificates = await named.configMap(certConfigMap);
  const proxy = await proxyOf(config, named);
  return {
    ...(certificates ? { ca: bundleOf(certificates) } : {}),
    ...(checksum === undefined ? {} : { checksum: normalized(checksum) }),
    ...(proxy ? { proxy } : {}),
  };
}

function normalized(checksum: string): string {
  const { algorithm, hex } = parseChecksum(checksum);
  return `${algorithm}:${hex}`;
}

/** User and password of a server; CDI authenticates only when both are there. */
function loginOf(secret: V1Secret | undefined): { username?: string; password?: string } {
  const username = valueOf(secret, 'accessKeyId');
  const password = valueOf(secret, 'secretKey');
  return username !== '' && password !== '' ? { username, password } : {};
}

/** The same, or what `kubectl create secret docker-registry` makes. */
function registryLoginOf(secret: V1Secret): Pick<RegistryRequest, 'username' | 'password' | 'dockerConfig'> {
  const dockerConfig = valueOf(secret, DOCKER_CONFIG);
  if (dockerConfig !== '') return { ...loginOf(secret), dockerConfig };
  refuseWithout(secret, ['accessKeyId', 'secretKey']);
  return loginOf(secret);
}

/** A header string at its first colon; a line without one is passed over, as CDI does. */
function splitHeader(line: string): (readonly [string, string])[] {
  const colon = line.indexOf(':');
  return colon > 0 ? [[line.slice(0, colon).trim(), line.slice(colon + 1).trim()]] : [];
}
