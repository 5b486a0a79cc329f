/** The claim and the volume of scratch space as they are created: everything on them from their first moment. */
import type { V1PersistentVolume, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import type { ClaimRef, DataVolumeRef } from '../types.js';
import type { ScratchActivities, ScratchPlan } from '../types/scratch.js';
import { CDI_ANNOTATIONS, MARKS, scratchName } from './names.js';
import { formatQuantity, parseQuantity } from './quantity.js';
import { volumeBody } from './volumes.js';

/** What a scratch claim is made of. */
export interface ClaimParts {
  readonly namespace: string;
  readonly dataVolume: DataVolumeRef;
  readonly planned: ScratchPlan;
  readonly workflowId: string;
}

/** It names its volume from the start: Kubernetes then gives it no other one, and no other provisioner feels asked. */
export function scratchClaim({
  namespace,
  dataVolume,
  planned,
  workflowId,
}: ClaimParts): V1PersistentVolumeClaim {
  const name = scratchName(dataVolume.uid);
  return {
    metadata: {
      namespace,
      name,
      labels: {
        app: 'containerized-data-importer',
        'velero.io/exclude-from-backup': 'true',
        [MARKS.unpublished]: dataVolume.uid,
      },
      annotations: {
        [CDI_ANNOTATIONS.createdFor]: dataVolume.uid,
        [MARKS.workflowId]: workflowId,
        [MARKS.dataVolume]: `${dataVolume.namespace}/${dataVolume.name}`,
      },
    },
    spec: {
      accessModes: ['ReadWriteOnce'],
      volumeMode: 'Filesystem',
      storageClassName: planned.storageClass,
      volumeName: name,
      resources: { requests: { storage: formatQuantity(planned.requestBytes) } },
    },
  };
}

/** Retained, whatever the class says: who removes it is the lifecycle or the sweeper, and nobody else beside them. */
export function scratchVolume(
  { dataVolume, claim, plan: planned, directory }: Parameters<ScratchActivities['bindScratch']>[0],
  workflowId: string,
): V1PersistentVolume {
  const target = {
    ...planned,
    accessModes: ['ReadWriteOnce'],
    volumeMode: 'Filesystem',
    reclaimPolicy: 'Retain',
  } as const;
  const body = volumeBody({ dataVolume, claim, target, directory }, workflowId);
  return { ...body, metadata: { ...body.metadata, name: scratchName(dataVolume.uid) } };
}

/** Made by an earlier attempt of this very run, for the same plan. */
export function isSame(
  { metadata, spec }: V1PersistentVolumeClaim,
  wanted: V1PersistentVolumeClaim,
): boolean {
  return (
    metadata?.deletionTimestamp === undefined &&
    metadata?.annotations?.[MARKS.workflowId] === wanted.metadata?.annotations?.[MARKS.workflowId] &&
    spec?.storageClassName === wanted.spec?.storageClassName &&
    requestOf(spec) === requestOf(wanted.spec)
  );
}

function requestOf(spec: V1PersistentVolumeClaim['spec']): bigint | undefined {
  return parseQuantity(spec?.resources?.requests?.storage ?? '');
}

/** Why a claim is not of use yet, in words. */
export function whyUnbound(
  { namespace, name }: ClaimRef,
  { storageClass }: ScratchPlan,
  found: V1PersistentVolumeClaim | undefined,
): string {
  const state = found ? `is ${found.status?.phase}` : 'is gone and is made again';
  return `scratch claim ${namespace}/${name} of StorageClass "${storageClass}" ${state}, not Bound`;
}
