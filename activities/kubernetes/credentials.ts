/** What a transfer needs to authenticate: gathered from the user's Secrets and ConfigMaps, kept in `transfer-<uid>` meanwhile. */
import { Context } from '@temporalio/activity';
import type { KubeConfig, V1ConfigMap, V1Secret } from '@kubernetes/client-node';
import { permanentFailure, transientFailure } from '../failures.js';
import type { SourceRequest } from '../image/source/types.js';
import type { ControlActivities } from '../interfaces.js';
import type { DataVolumeRef, Missing } from '../types.js';
import { call, callForOutcome, callIfFound, callUnlessConflict, createKubernetes } from './client.js';
import type { Kubernetes } from './client.js';
import { readDataVolume } from './data-volumes.js';
import { credentialsName, MARKS } from './names.js';
import type { HttpSource } from './objects.js';

/** Key of the Secret copy: the {@link SourceRequest} as JSON. */
const SOURCE_KEY = 'source.json';

/** Digits of each digest, `cdi.md` §2.8. */
const CHECKSUM_LENGTHS = new Map([
  ['md5', 32],
  ['sha1', 40],
  ['sha256', 64],
  ['sha512', 128],
]);

/** What the activities of credentials need. */
export interface CredentialDependencies {
  readonly kubernetes: Kubernetes;
  /** Namespace of the copies. */
  readonly transferNamespace: string;
}

type Named<T> = (name: string) => Promise<T | undefined>;

/**
 * The request that a DataVolume's source means, or what is missing for it. `readSecret` and `readConfigMap` look in the
 * DataVolume's namespace.
 *
 * @throws {@link FailureType} `InvalidDataVolume` for a malformed checksum, or a ConfigMap without a certificate
 */
export async function buildSourceRequest(
  source: HttpSource,
  readSecret: Named<V1Secret>,
  readConfigMap: Named<V1ConfigMap>,
): Promise<SourceRequest | { readonly absent: readonly string[] }> {
  const absent: string[] = [];
  const basic = source.secretRef ? await readSecret(source.secretRef) : undefined;
  if (source.secretRef && !basic) absent.push(`Secret ${source.secretRef}`);
  const certificates = source.certConfigMap ? await readConfigMap(source.certConfigMap) : undefined;
  if (source.certConfigMap && !certificates) absent.push(`ConfigMap ${source.certConfigMap}`);
  const secretHeaders: (readonly [string, string])[] = [];
  for (const name of source.secretExtraHeaders ?? []) {
    const secret = await readSecret(name);
    if (!secret) absent.push(`Secret ${name}`);
    for (const key of Object.keys(secret?.data ?? {}).sort())
      secretHeaders.push(...splitHeader(valueOf(secret, key)));
  }
  if (absent.length > 0) return { absent };
  return {
    kind: 'http',
    url: source.url,
    ...basicAuthOf(basic),
    headers: (source.extraHeaders ?? []).flatMap(splitHeader),
    secretHeaders,
    ...(certificates ? { ca: bundleOf(certificates) } : {}),
    insecureSkipVerify: source.insecureSkipVerify ?? false,
    ...(source.checksum === undefined ? {} : { checksum: readChecksum(source.checksum) }),
  };
}

/** Reads the copies of credentials: all that a node worker may read. */
export function createCredentialReader(
  kubeConfig: KubeConfig,
  namespace: string,
): (uid: string) => Promise<SourceRequest> {
  const { core } = createKubernetes(kubeConfig);
  return async (uid) => {
    const name = credentialsName(uid);
    const secret = await call(
      `reading Secret ${namespace}/${name}`,
      core.readNamespacedSecret({ namespace, name }),
    );
    return JSON.parse(valueOf(secret, SOURCE_KEY)) as SourceRequest;
  };
}

/** Activities of credentials, and the reader that the probe of a source uses. */
export function createCredentialActivities({ kubernetes, transferNamespace }: CredentialDependencies): Pick<
  ControlActivities,
  'copyCredentials' | 'deleteCredentials'
> & {
  readonly readSourceRequest: (dataVolume: DataVolumeRef) => Promise<SourceRequest | Missing>;
} {
  const { core } = kubernetes;

  /** The request as the DataVolume means it now. */
  async function readSourceRequest(ref: DataVolumeRef): Promise<SourceRequest | Missing> {
    const { namespace } = ref;
    const { spec } = await readDataVolume(kubernetes, ref);
    if (!spec.source?.http) throw permanentFailure('UnsupportedSource', 'the DataVolume has no source.http');
    const request = await buildSourceRequest(
      spec.source.http,
      (name) =>
        callIfFound(`reading Secret ${namespace}/${name}`, core.readNamespacedSecret({ namespace, name })),
      (name) =>
        callIfFound(
          `reading ConfigMap ${namespace}/${name}`,
          core.readNamespacedConfigMap({ namespace, name }),
        ),
    );
    if (!('absent' in request)) return request;
    return { missing: request.absent.map((what) => what.replace(' ', ` ${namespace}/`)) };
  }

  async function copyCredentials({
    dataVolume,
  }: {
    dataVolume: DataVolumeRef;
  }): Promise<Missing | { missing?: never }> {
    const request = await readSourceRequest(dataVolume);
    if ('missing' in request) return request;
    const { workflowId = '' } = Context.current().info.workflowExecution ?? {};
    const body = copyBody(dataVolume, request, workflowId);
    const name = credentialsName(dataVolume.uid);
    const doing = `copying credentials to Secret ${transferNamespace}/${name}`;
    const created = await callUnlessConflict(
      doing,
      core.createNamespacedSecret({ namespace: transferNamespace, body }),
    );
    if (created !== 'conflict') return {};
    const replaced = await callForOutcome(
      doing,
      core.replaceNamespacedSecret({ namespace: transferNamespace, name, body }),
    );
    if (typeof replaced !== 'string') return {};
    throw transientFailure('KubernetesUnavailable', `${doing}: it changed meanwhile`);
  }

  async function deleteCredentials({ dataVolume }: { dataVolume: DataVolumeRef }): Promise<void> {
    const name = credentialsName(dataVolume.uid);
    await callForOutcome(
      `deleting Secret ${transferNamespace}/${name}`,
      core.deleteNamespacedSecret({ namespace: transferNamespace, name }),
    );
  }

  return { copyCredentials, deleteCredentials, readSourceRequest };
}

function copyBody(dataVolume: DataVolumeRef, request: SourceRequest, workflowId: string): V1Secret {
  return {
    metadata: {
      name: credentialsName(dataVolume.uid),
      labels: { [MARKS.unpublished]: dataVolume.uid },
      annotations: {
        [MARKS.workflowId]: workflowId,
        [MARKS.dataVolume]: `${dataVolume.namespace}/${dataVolume.name}`,
      },
    },
    type: 'Opaque',
    stringData: { [SOURCE_KEY]: JSON.stringify(request) },
  };
}

function basicAuthOf(secret: V1Secret | undefined): { username?: string; password?: string } {
  const username = valueOf(secret, 'accessKeyId');
  const password = valueOf(secret, 'secretKey');
  // CDI authenticates only when both are there
  return username !== '' && password !== '' ? { username, password } : {};
}

/** A value without the line end that `echo` and editors leave: no header and no password may end in one. */
function valueOf(secret: V1Secret | undefined, key: string): string {
  return Buffer.from(secret?.data?.[key] ?? '', 'base64')
    .toString('utf8')
    .replace(/[\r\n]+$/, '');
}

/** A header string at its first colon; a line without one is passed over, as CDI does. */
function splitHeader(line: string): (readonly [string, string])[] {
  const colon = line.indexOf(':');
  return colon > 0 ? [[line.slice(0, colon).trim(), line.slice(colon + 1).trim()]] : [];
}

function bundleOf({ metadata, data = {} }: V1ConfigMap): string {
  const files = Object.keys(data)
    .filter((key) => !key.startsWith('.'))
    .sort();
  const bundle = files.map((key) => data[key]?.trim() ?? '').join('\n');
  if (bundle.includes('-----BEGIN CERTIFICATE-----')) return `${bundle}\n`;
  throw permanentFailure(
    'InvalidDataVolume',
    `ConfigMap ${metadata?.namespace}/${metadata?.name} holds no PEM certificate in its ${files.length} keys`,
  );
}

/** `algorithm:hex` in lower case. @throws {@link FailureType} `InvalidDataVolume`, with CDI's texts */
function readChecksum(text: string): string {
  const [algorithm = '', digest = '', ...rest] = text.trim().toLowerCase().split(':');
  const length = CHECKSUM_LENGTHS.get(algorithm);
  const problem = problemOf(text, length, { algorithm, digest, rest });
  if (problem === undefined) return `${algorithm}:${digest}`;
  throw permanentFailure('InvalidDataVolume', `Invalid checksum format: ${problem}`);
}

function problemOf(
  text: string,
  length: number | undefined,
  { algorithm, digest, rest }: { algorithm: string; digest: string; rest: readonly string[] },
): string | undefined {
  if (!text.includes(':') || rest.length > 0) return `expected 'algorithm:hash', got '${text}'`;
  if (length === undefined) {
    return `unsupported hash algorithm '${algorithm}': supported algorithms are: ${[...CHECKSUM_LENGTHS.keys()].join(', ')}`;
  }
  if (digest.length !== length) {
    return `invalid ${algorithm} hash length: expected ${length} hex characters, got ${digest.length}`;
  }
  return /^[0-9a-f]+$/.test(digest) ? undefined : 'checksum hash is not valid hexadecimal';
}
