/** What a transfer needs to authenticate: gathered from the user's Secrets and ConfigMaps, kept in `transfer-<uid>` meanwhile. */
import { Context } from '@temporalio/activity';
import type { KubeConfig, V1Secret } from '@kubernetes/client-node';
import { transientFailure } from '../failures.js';
import type { SourceRequest } from '../image/source/types.js';
import type { ControlActivities } from '../interfaces.js';
import type { DataVolumeRef, Missing } from '../types.js';
import { call, callForOutcome, callUnlessConflict, createKubernetes } from './client.js';
import type { Kubernetes } from './client.js';
import { readDataVolume } from './data-volumes.js';
import { createLookup } from './named-objects.js';
import { credentialsName, MARKS } from './names.js';
import { valueOf } from './secret-values.js';
import { buildSourceRequest } from './source-request.js';
import { readCdiConfig } from './storage-classes.js';

/** Key of the Secret copy: the {@link SourceRequest} as JSON. */
const SOURCE_KEY = 'source.json';

/** What the activities of credentials need. */
export interface CredentialDependencies {
  readonly kubernetes: Kubernetes;
  /** Namespace of the copies. */
  readonly transferNamespace: string;
  /** S3 sources without a Secret may use the workers' own AWS credentials. @default false */
  readonly ambientCredentials?: boolean | undefined;
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
export function createCredentialActivities({
  kubernetes,
  transferNamespace,
  ambientCredentials,
}: CredentialDependencies): Pick<ControlActivities, 'copyCredentials' | 'deleteCredentials'> & {
  readonly readSourceRequest: (dataVolume: DataVolumeRef) => Promise<SourceRequest | Missing>;
} {
  const { core } = kubernetes;

  /** The request as the DataVolume means it now. */
  async function readSourceRequest(ref: DataVolumeRef): Promise<SourceRequest | Missing> {
    const { spec } = await readDataVolume(kubernetes, ref);
    return await buildSourceRequest(spec.source ?? {}, {
      lookup: createLookup(kubernetes),
      namespace: ref.namespace,
      config: await readCdiConfig(kubernetes),
      ambientCredentials,
    });
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
