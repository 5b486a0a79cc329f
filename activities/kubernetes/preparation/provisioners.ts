/** HostPathProvisioners: read, created for a manifest, listed. */
import { ApiException, setHeaderOptions, type V1ObjectReference } from '@kubernetes/client-node';
import { Context } from '@temporalio/activity';
import { failureTypeOf, permanentFailure, transientFailure } from '../../failures.js';
import type {
  HostPathProvisionerManifest,
  ProvisionerFacts,
  ProvisionerRef,
} from '../../types/preparation.js';
import { call, callIfFound, type Kubernetes } from '../client.js';
import { isAuthorizerDenial, kubernetesFailure, serverMessage } from '../errors.js';
import { isRecord, isStrings, parseText } from '../manifests.js';
import { HPP_GROUP, HPP_VERSION, MARKS } from '../names.js';
import type { WatchedProvisioner } from './objects.js';
import { factsOf } from './provisioner-spec.js';

/** Address of HostPathProvisioners for the custom objects API. */
export const PROVISIONERS = {
  group: HPP_GROUP,
  version: HPP_VERSION,
  plural: 'hostpathprovisioners',
} as const;

const VERSIONS = [`${HPP_GROUP}/v1beta1`, `${HPP_GROUP}/v1alpha1`];

/** An authorizer that has just started refuses what it will allow: the first refusals are asked again. */
const REFUSALS_BELIEVED_FROM_ATTEMPT = 3;

/** The HostPathProvisioner of this name, whoever it is. */
export async function findProvisioner(
  { custom }: Kubernetes,
  name: string,
): Promise<WatchedProvisioner | undefined> {
  const found: unknown = await callIfFound(
    `reading HostPathProvisioner ${name}`,
    custom.getClusterCustomObject({ ...PROVISIONERS, name }),
  );
  return found as WatchedProvisioner | undefined;
}

/** For events about it. */
export function referenceTo({ name, uid }: ProvisionerRef): V1ObjectReference {
  return { apiVersion: VERSIONS[0] ?? '', kind: 'HostPathProvisioner', name, uid };
}

/** Opens the preparation of a HostPathProvisioner. */
export function createProvisionerOpener(
  kubernetes: Kubernetes,
  temporalNamespace: string,
): (input: {
  ref?: ProvisionerRef;
  manifest?: HostPathProvisionerManifest | string;
}) => Promise<{ provisioner?: ProvisionerFacts }> {
  return async ({ ref, manifest }) => {
    if (ref) {
      const found = await findProvisioner(kubernetes, ref.name);
      const lives = found?.metadata.uid === ref.uid && !found.metadata.deletionTimestamp;
      return lives ? { provisioner: factsOf(found) } : {};
    }
    if (manifest === undefined) throw invalid('the argument is neither a HostPathProvisioner nor a manifest');
    return { provisioner: factsOf(await createOrAdopt(kubernetes, temporalNamespace, manifest)) };
  };
}

async function createOrAdopt(
  kubernetes: Kubernetes,
  temporalNamespace: string,
  manifest: HostPathProvisionerManifest | string,
): Promise<WatchedProvisioner> {
  const workflowId = Context.current().info.workflowExecution?.workflowId ?? '';
  const { version, body } = readProvisionerManifest(manifest, workflowId);
  const { name } = body.metadata;
  const doing = `creating HostPathProvisioner ${name}`;
  // what no object may be is refused before there is one
  const { refused } = factsOf({ ...body, metadata: { ...body.metadata, uid: '' } });
  if (refused) throw invalid(refused);
  try {
    const created: unknown = await kubernetes.custom.createClusterCustomObject(
      { ...PROVISIONERS, version, body, fieldValidation: 'Strict' },
      setHeaderOptions('Impersonate-User', `dvflow:temporal:${temporalNamespace}`),
    );
    return created as WatchedProvisioner;
  } catch (error) {
    if (!(error instanceof ApiException && error.code === 409)) throw creationFailure(error, doing);
  }
  const found = await findProvisioner(kubernetes, name);
  if (!found) throw transientFailure('KubernetesUnavailable', `${doing}: it exists and is gone: once more`);
  if (found.metadata.annotations?.[MARKS.workflowId] === workflowId) return found;
  throw permanentFailure(
    'ResourceExists',
    `HostPathProvisioner ${name} already exists and is not of this workflow: change it by kubectl, it is then prepared anew`,
  );
}

/** A refusal of the manifest is the starter's, one of dvflow's own rights is not (as for DataVolumes). */
function creationFailure(error: unknown, doing: string): Error {
  const message = `${doing}: ${serverMessage(error)}`;
  if (isAuthorizerDenial(error) && !message.includes(' cannot impersonate ')) {
    const believed = Context.current().info.attempt >= REFUSALS_BELIEVED_FROM_ATTEMPT;
    if (believed) return permanentFailure('NotAuthorized', message, error);
    return transientFailure('KubernetesUnavailable', message, { nextRetryDelayMs: 1000 });
  }
  const failure = kubernetesFailure(error, doing);
  return failureTypeOf(failure) === 'InvalidDataVolume' ? invalid(failure.message, failure) : failure;
}

/**
 * Reads a manifest given as object, JSON or YAML, and marks it with the workflow that makes it.
 * @throws {@link FailureType} `InvalidHostPathProvisioner` for what is none
 */
export function readProvisionerManifest(
  manifest: HostPathProvisionerManifest | string,
  workflowId: string,
): { readonly version: string; readonly body: Body } {
  const value: unknown = typeof manifest === 'string' ? parseText(manifest, invalid) : manifest;
  if (!isRecord(value))
    throw invalid(
      'the argument is no HostPathProvisioner manifest: give an object, or its JSON or YAML text',
    );
  const { apiVersion = VERSIONS[0], kind = 'HostPathProvisioner', metadata, spec } = value;
  if (kind !== 'HostPathProvisioner')
    throw invalid(`kind is ${JSON.stringify(kind)}: only HostPathProvisioner can be prepared`);
  if (typeof apiVersion !== 'string' || !VERSIONS.includes(apiVersion))
    throw invalid(`apiVersion is ${JSON.stringify(apiVersion)}: use ${VERSIONS.join(' or ')}`);
  if (!isRecord(metadata) || typeof metadata.name !== 'string' || metadata.name === '')
    throw invalid('metadata.name is missing');
  if (!isRecord(spec)) throw invalid('spec is missing');
  const { name, labels = {}, annotations = {} } = metadata;
  if (!isStrings(labels)) throw invalid('metadata.labels must map names to strings');
  if (!isStrings(annotations)) throw invalid('metadata.annotations must map names to strings');
  const marked = { ...annotations, [MARKS.workflowId]: workflowId };
  return {
    version: apiVersion.split('/')[1] ?? '',
    body: { apiVersion, kind: 'HostPathProvisioner', metadata: { name, labels, annotations: marked }, spec },
  };
}

interface Body {
  readonly apiVersion: string;
  readonly kind: 'HostPathProvisioner';
  readonly metadata: {
    readonly name: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations: Readonly<Record<string, string>>;
  };
  readonly spec: Readonly<Record<string, unknown>>;
}

/** Every HostPathProvisioner that is not being deleted. */
export async function listProvisioners({ custom }: Kubernetes): Promise<readonly WatchedProvisioner[]> {
  const answer: unknown = await call(
    'listing HostPathProvisioners',
    custom.listClusterCustomObject({ ...PROVISIONERS }),
  );
  return (answer as { items: WatchedProvisioner[] }).items.filter(
    ({ metadata }) => metadata.deletionTimestamp === undefined,
  );
}

function invalid(message: string, cause?: unknown): Error {
  return permanentFailure('InvalidHostPathProvisioner', message, cause);
}
