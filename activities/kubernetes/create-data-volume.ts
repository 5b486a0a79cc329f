/** Creation of a DataVolume for a manifest that a workflow was given. */
import { Context } from '@temporalio/activity';
import { ApiException, setHeaderOptions } from '@kubernetes/client-node';
import { permanentFailure, transientFailure } from '../failures.js';
import type { Kubernetes } from './client.js';
import { isAuthorizerDenial, kubernetesFailure, serverMessage } from './errors.js';
import type { ReadManifest } from './manifests.js';
import { CDI_ANNOTATIONS, CDI_GROUP, MARKS } from './names.js';
import type { DataVolume } from './objects.js';

/** Of every DataVolume that dvflow serves. */
export const NO_POPULATOR = { [CDI_ANNOTATIONS.usePopulator]: 'false' };

/** An authorizer that has just started refuses what it will allow: the first refusals are asked again. */
const REFUSALS_BELIEVED_FROM_ATTEMPT = 3;

/** A manifest, and for whom its DataVolume is made. */
export interface Wanted {
  readonly manifest: ReadManifest;
  /** Kubernetes user who is impersonated. */
  readonly user: string;
  readonly workflowId: string;
}

/**
 * Creates the DataVolume, marked with the workflow's id; `undefined` when there is one of that name.
 * @throws {@link FailureType} `InvalidDataVolume`, `NotAuthorized`, `ExceededQuota`
 */
export async function createDataVolume(
  kubernetes: Kubernetes,
  wanted: Wanted,
): Promise<DataVolume | undefined> {
  try {
    return await post(kubernetes, wanted);
  } catch (error) {
    if (error instanceof ApiException && error.code === 409) return undefined;
    throw creationFailure(error, wanted.manifest);
  }
}

/**
 * What the API server would make of the manifest's specification now, with all that a cluster's admission adds or changes; `undefined`
 * where it would refuse it. Nothing is created.
 */
export async function specAsServed(
  kubernetes: Kubernetes,
  wanted: Wanted,
): Promise<DataVolume['spec'] | undefined> {
  try {
    return (await post(kubernetes, wanted, 'All')).spec;
  } catch (error) {
    if (error instanceof ApiException && error.code < 500 && error.code !== 429) return undefined;
    throw kubernetesFailure(error, `trying ${nameOf(wanted.manifest)}`);
  }
}

/** A dry run gets a name of its own: there is a DataVolume of this one. */
async function post(
  { custom }: Kubernetes,
  { manifest, user, workflowId }: Wanted,
  dryRun?: 'All',
): Promise<DataVolume> {
  const { version, namespace, name, labels, annotations, metadata, spec } = manifest;
  const created: unknown = await custom.createNamespacedCustomObject(
    {
      group: CDI_GROUP,
      version,
      namespace,
      plural: 'datavolumes',
      body: {
        apiVersion: `${CDI_GROUP}/${version}`,
        kind: 'DataVolume',
        metadata: {
          ...metadata,
          ...(dryRun ? { generateName: `${name}-` } : { name }),
          namespace,
          labels,
          annotations: { ...annotations, ...NO_POPULATOR, [MARKS.workflowId]: workflowId },
        },
        spec,
      },
      fieldValidation: 'Strict',
      ...(dryRun ? { dryRun } : {}),
    },
    setHeaderOptions('Impersonate-User', user),
  );
  return created as DataVolume;
}

function creationFailure(error: unknown, manifest: ReadManifest): Error {
  const doing = `creating ${nameOf(manifest)}`;
  if (!isAuthorizerDenial(error)) return kubernetesFailure(error, doing);
  const message = serverMessage(error);
  // the right to impersonate is dvflow's own, not the user's
  if (message.includes(' cannot impersonate ')) return kubernetesFailure(error, doing);
  if (Context.current().info.attempt < REFUSALS_BELIEVED_FROM_ATTEMPT) {
    return transientFailure('KubernetesUnavailable', `${doing}: ${message}`, { nextRetryDelayMs: 1000 });
  }
  return permanentFailure('NotAuthorized', `${doing}: ${message}`);
}

/** Names the manifest's DataVolume in a message. */
export function nameOf({ namespace, name }: { namespace: string; name: string }): string {
  return `DataVolume ${namespace}/${name}`;
}
