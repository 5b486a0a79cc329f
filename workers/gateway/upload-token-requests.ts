/** The aggregated API `upload.cdi.kubevirt.io` (`clients.md` §2.1): documents of discovery, and the one thing that can be created. */
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { call, callIfFound } from '../../activities/kubernetes/client.js';
import { findDataVolume } from '../../activities/kubernetes/data-volumes.js';
import type { FrontProxyUser } from './front-proxy.js';
import { invalidStatus, statusOf, type ApiStatus } from './api-status.js';
import { whyNoName } from './object-names.js';
import type { TokenHolder, TokenTarget, Tokens } from './tokens.js';

/** Group of the aggregated API. */
export const UPLOAD_GROUP = 'upload.cdi.kubevirt.io';
/** Its versions, the preferred one first; both are the same. */
export const UPLOAD_VERSIONS = ['v1beta1', 'v1alpha1'] as const;
/** Its one resource. */
export const UPLOAD_RESOURCE = 'uploadtokenrequests';
const KIND = 'UploadTokenRequest';

/** A request for a token; what is sent comes back with `status.token`, and nothing is kept. */
interface UploadTokenRequest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly spec?: { readonly pvcName?: unknown };
}

/** An answer of the API. */
export interface ApiAnswer {
  readonly code: number;
  readonly body: object;
}

/** What a request for a token is answered with. */
export interface TokenRequestOptions {
  readonly kubernetes: Pick<Kubernetes, 'core' | 'custom' | 'authorization'>;
  readonly tokens: Tokens;
}

/** One request for a token. */
export interface TokenRequest {
  readonly user: FrontProxyUser;
  readonly version: string;
  readonly namespace: string;
  /** As it came. */
  readonly body: unknown;
  /** Nothing is signed. */
  readonly dryRun: boolean;
  /** What becomes of fields that nobody knows: kubectl asks for `Strict`, and leaves it to the server then. @default 'Ignore' */
  readonly fieldValidation?: string | undefined;
}

/**
 * Answers a request for a token: for whom may create `uploadtokenrequests` in the namespace, a token that is bound to the claim as
 * it is now. A claim that does not exist yet is answered too, as CDI does: the token then holds for the claim of the DataVolume
 * of that name, and for no claim where there is none.
 */
export async function answerTokenRequest(
  { kubernetes, tokens }: TokenRequestOptions,
  { user, version, namespace, body, dryRun, fieldValidation }: TokenRequest,
): Promise<ApiAnswer> {
  const refused = await refusalOf(kubernetes, user, { version, namespace });
  if (refused) return refused;
  // whoever may create them everywhere is let through in any; this one cannot be
  if (whyNoName(namespace) !== undefined)
    return statusOf('NotFound', `namespaces ${JSON.stringify(namespace)} not found`);
  const apiVersion = `${UPLOAD_GROUP}/${version}`;
  if (!isTokenRequest(body, apiVersion))
    return statusOf('BadRequest', `the body is no ${KIND} of ${apiVersion} in JSON`);
  const unknown = fieldValidation === 'Strict' ? unknownFields(body) : [];
  if (unknown.length > 0)
    return statusOf(
      'BadRequest',
      `strict decoding error: ${unknown.map((field) => `unknown field "${field}"`).join(', ')}`,
    );
  const name = claimNameOf(body);
  if (typeof name !== 'string') return name;
  const stated = body.metadata?.['namespace'];
  if (stated !== undefined && stated !== '' && stated !== namespace)
    return statusOf('BadRequest', 'the namespace of the object does not match the one of the request');
  const target = dryRun ? undefined : await bind(kubernetes, namespace, name);
  const token = target ? await tokens.issue({ ...target, holder: user }) : '';
  const metadata = { ...body.metadata, namespace };
  return {
    code: 200,
    body: { kind: KIND, apiVersion, metadata, spec: { pvcName: name }, status: { token } },
  };
}

/** kube-apiserver has asked its authorizer already; a gateway that is reached by another way asks again. */
async function refusalOf(
  kubernetes: Pick<Kubernetes, 'authorization'>,
  user: FrontProxyUser,
  { version, namespace }: Pick<TokenRequest, 'version' | 'namespace'>,
): Promise<ApiStatus | undefined> {
  const { allowed, reason } = await mayUpload(kubernetes, user, { version, namespace });
  if (allowed) return undefined;
  return statusOf(
    'Forbidden',
    `${UPLOAD_RESOURCE}.${UPLOAD_GROUP} is forbidden: User "${user.user}" cannot create resource "${UPLOAD_RESOURCE}" ` +
      `in API group "${UPLOAD_GROUP}" in the namespace "${namespace}"${reason}`,
  );
}

/** Whether a user may have tokens for claims of a namespace now; asked for the first one, and for each that renews one. */
export async function mayUpload(
  { authorization }: Pick<Kubernetes, 'authorization'>,
  { user, uid, groups, extra }: TokenHolder,
  { version = UPLOAD_VERSIONS[0], namespace }: { readonly version?: string; readonly namespace: string },
): Promise<{ readonly allowed: boolean; readonly reason: string }> {
  const resourceAttributes = {
    namespace,
    verb: 'create',
    group: UPLOAD_GROUP,
    version,
    resource: UPLOAD_RESOURCE,
  };
  const copied = Object.fromEntries(Object.entries(extra).map(([key, values]) => [key, [...values]]));
  const who = { user, groups: [...groups], extra: copied, ...(uid === undefined ? {} : { uid }) };
  const { status } = await call(
    `asking whether ${user} may upload into namespace ${namespace}`,
    authorization.createSubjectAccessReview({ body: { spec: { ...who, resourceAttributes } } }),
  );
  return { allowed: status?.allowed === true, reason: status?.reason ? `: ${status.reason}` : '' };
}

/** Fields that the kind does not have; what Kubernetes itself keeps in `metadata` is nobody's to judge here. */
function unknownFields({ spec, ...object }: UploadTokenRequest): readonly string[] {
  const odd = (fields: object | undefined, known: readonly string[], prefix = ''): string[] =>
    Object.keys(fields ?? {})
      .filter((field) => !known.includes(field))
      .map((field) => `${prefix}${field}`);
  return [...odd(object, ['apiVersion', 'kind', 'metadata', 'status']), ...odd(spec, ['pvcName'], 'spec.')];
}

/** The name of the claim, or why there is none. */
function claimNameOf({ metadata, spec }: UploadTokenRequest): string | ApiStatus {
  const name = spec?.pvcName;
  const own = metadata?.['name'];
  const object = { group: UPLOAD_GROUP, kind: KIND, name: typeof own === 'string' ? own : '' };
  const field = 'spec.pvcName';
  if (typeof name !== 'string' || name === '') {
    const message = 'Required value: the name of a claim';
    return invalidStatus(object, { field, reason: 'FieldValueRequired', message });
  }
  const why = whyNoName(name);
  if (why === undefined) return name;
  const message = `Invalid value: ${JSON.stringify(name)}: ${why}`;
  return invalidStatus(object, { field, reason: 'FieldValueInvalid', message });
}

/** What exists under the name now. */
async function bind(
  { core, custom }: Pick<Kubernetes, 'core' | 'custom'>,
  namespace: string,
  name: string,
): Promise<TokenTarget> {
  const doing = `reading claim ${namespace}/${name}`;
  const claim = await callIfFound(doing, core.readNamespacedPersistentVolumeClaim({ namespace, name }));
  if (claim?.metadata?.uid) return { namespace, name, claimUid: claim.metadata.uid };
  const dataVolume = await findDataVolume({ custom }, { namespace, name });
  const uid = dataVolume?.metadata?.uid;
  return { namespace, name, ...(uid === undefined ? {} : { dataVolumeUid: uid }) };
}

function isTokenRequest(body: unknown, apiVersion: string): body is UploadTokenRequest {
  if (typeof body !== 'object' || body === null) return false;
  const { kind, apiVersion: stated } = body as Partial<UploadTokenRequest>;
  return kind === KIND && stated === apiVersion;
}
