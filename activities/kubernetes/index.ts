import type { KubeConfig } from '@kubernetes/client-node';
import type { Client } from '@temporalio/client';
import type { AddressPolicy } from '../image/source/types.js';
import type { ControlActivities } from '../interfaces.js';
import { createAttemptTeller } from './attempts.js';
import { createCapacityActivities } from './capacity.js';
import { createClaimActivities } from './claims.js';
import { createKubernetes } from './client.js';
import { createCloneActivities } from './clone/index.js';
import { createCloneSourceActivities } from './clone-sources.js';
import { createCredentialActivities } from './credentials.js';
import { createDataVolumeActivities } from './data-volumes.js';
import { createExecutionObserver } from './executions.js';
import { createInspectActivities } from './inspect-source.js';
import { createLocalVolumeActivities } from './local-volumes.js';
import { createNodeActivities } from './nodes.js';
import { createPreparationActivities } from './preparation/index.js';
import { createProvisionActivities } from './provision.js';
import { createReclaimActivities } from './reclaim.js';
import { createReservationActivities } from './reservations.js';
import { createScratchActivities } from './scratch.js';
import { createStatusActivities } from './status.js';
import { createSweepActivities } from './sweep.js';
import { createClaimPlanner, createTargetActivities } from './targets.js';
import { createUploadClaimActivities } from './upload-claims.js';
import { createVolumeActivities } from './volumes.js';

/** What the activities of the control role need from outside. */
export interface KubernetesDependencies {
  /** Identity of the control role. */
  readonly kubeConfig: KubeConfig;
  /** Asked whether workflows are closed, and for the heartbeats of transfers. */
  readonly temporal: Pick<Client, 'workflow'>;
  readonly temporalNamespace: string;
  readonly namespaces: {
    /** Namespace of Secret copies: `dvflow-transfers`. */
    readonly transfers: string;
  };
  /** Where a source may be. */
  readonly policy: AddressPolicy;
  /** S3 sources without a Secret may use the workers' own AWS credentials. @default false */
  readonly ambientCredentials?: boolean;
  /** Age below which the sweeper removes nothing, in ms. @default 600_000 */
  readonly sweepGraceMs?: number;
}

/** Every activity of the task queue `dvflow`. */
export function createKubernetesActivities(dependencies: KubernetesDependencies): ControlActivities {
  const { kubeConfig, temporalNamespace, namespaces, policy, ambientCredentials, sweepGraceMs } =
    dependencies;
  const kubernetes = createKubernetes(kubeConfig);
  const executions = createExecutionObserver(dependencies.temporal);
  const cloneSources = createCloneSourceActivities({ kubernetes });
  const transferNamespace = namespaces.transfers;
  const { readSourceRequest, copyCredentials, deleteCredentials } = createCredentialActivities({
    kubernetes,
    transferNamespace,
    ambientCredentials,
  });
  // one of them: it reads the volumes once for all who plan at the same time
  const planClaim = createClaimPlanner(kubernetes);
  const { planTarget } = createTargetActivities({ kubernetes, planClaim });
  const { inspectSource } = createInspectActivities({ policy, readSourceRequest });
  const status = createStatusActivities({ kubernetes });
  const telling = createAttemptTeller(status);
  return {
    ...createDataVolumeActivities({ kubernetes, executions, temporalNamespace }),
    planTarget: telling('planTarget', planTarget),
    inspectSource: telling('inspectSource', inspectSource),
    ...createClaimActivities({ kubernetes }),
    ...cloneSources,
    ...createCloneActivities({
      kubernetes,
      planClaim,
      resolve: async (input) => await cloneSources.resolveCloneSource(input),
    }),
    ...createNodeActivities({ kubernetes }),
    copyCredentials: telling('copyCredentials', copyCredentials),
    deleteCredentials,
    ...createUploadClaimActivities({ kubernetes, executions }),
    ...createVolumeActivities({ kubernetes }),
    ...createScratchActivities({ kubernetes, transferNamespace }),
    ...status,
    ...createSweepActivities({
      kubernetes,
      executions,
      transferNamespace,
      ...(sweepGraceMs === undefined ? {} : { graceMs: sweepGraceMs }),
    }),
    ...createProvisionActivities({ kubernetes }),
    ...createCapacityActivities({ kubernetes }),
    ...createReclaimActivities({ kubernetes }),
    ...createReservationActivities({ kubernetes, transferNamespace }),
    ...createLocalVolumeActivities({ kubernetes, transferNamespace }),
    ...createPreparationActivities({ kubernetes, temporal: dependencies.temporal, temporalNamespace }),
    observeTransfer: async ({ workflowId }) => ({ bytes: await executions.transferredBytes(workflowId) }),
  };
}
