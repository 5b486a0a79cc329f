/** The claim of a DataVolume as it is created: everything on it from its first moment. */
import type { V1OwnerReference, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import type { ReservedVolume } from '../types/local-volumes.js';
import type { DataVolumeRef, TargetPlan } from '../types.js';
import { CDI_ANNOTATIONS, CDI_GROUP, CDI_VERSION, MARK_PREFIX, MARKS } from './names.js';
import type { DataVolume } from './objects.js';
import { formatQuantity } from './quantity.js';

/** Annotations of kubectl's that describe the DataVolume, not the claim. */
const NOT_COPIED = ['kubectl.kubernetes.io/last-applied-configuration'];

/** What a claim is made of besides its DataVolume. */
export interface ClaimParts {
  readonly target: TargetPlan;
  /** The workflow that makes it. */
  readonly workflowId: string;
  /** Labels of the image. */
  readonly labels?: Readonly<Record<string, string>>;
  /** The static volume that is filled for it. */
  readonly reserved?: ReservedVolume;
}

/** The claim, marked as unpublished. */
export function claimBody(dataVolume: DataVolume, parts: ClaimParts): V1PersistentVolumeClaim {
  const { target, workflowId } = parts;
  const { namespace, name, uid } = dataVolume.metadata;
  const volume = parts.reserved?.volume;
  return {
    metadata: {
      namespace,
      name,
      labels: {
        // what the image asks for goes after everything else (`cdi.md` §2.4): nobody here has seen the image before
        ...withoutOwn(parts.labels),
        ...claimLabels(dataVolume, target),
        [MARKS.unpublished]: uid,
      },
      annotations: {
        ...claimAnnotations(dataVolume, target, workflowId),
        ...(parts.reserved ? { [MARKS.reservedVolume]: parts.reserved.volume } : {}),
      },
      ownerReferences: [ownerReference({ namespace, name, uid })],
    },
    spec: claimSpec(dataVolume, {
      ...target,
      storageClass: parts.reserved?.storageClass ?? target.storageClass,
      ...(volume === undefined ? {} : { volume }),
    }),
  };
}

/** What the claim asks Kubernetes for. */
type ClaimShape = Pick<TargetPlan, 'accessModes' | 'volumeMode' | 'storageClass' | 'requestBytes'>;

/**
 * The claim of a volume that holds the data already. It has no mark of dvflow, since nothing is filled, and no owner yet: with that it
 * would go, and take the volume along, when the DataVolume goes before anybody has seen it Bound.
 */
export function keptClaimBody(
  dataVolume: DataVolume,
  target: ClaimShape & { readonly volume: string },
): V1PersistentVolumeClaim {
  const { namespace, name, uid, annotations } = dataVolume.metadata;
  const { [CDI_ANNOTATIONS.populatedFor]: _, ...told } = withoutMarks(annotations);
  return {
    metadata: {
      namespace,
      name,
      labels: claimLabels(dataVolume, target),
      annotations: {
        ...told,
        [CDI_ANNOTATIONS.podRestarts]: '0',
        [CDI_ANNOTATIONS.contentType]: dataVolume.spec.contentType || 'kubevirt',
        [CDI_ANNOTATIONS.createdFor]: uid,
        [CDI_ANNOTATIONS.persistentVolumeList]: JSON.stringify([target.volume]),
      },
    },
    spec: claimSpec(dataVolume, target),
  };
}

function claimLabels(
  { metadata }: DataVolume,
  { volumeMode }: Pick<ClaimShape, 'volumeMode'>,
): Record<string, string> {
  return {
    app: 'containerized-data-importer',
    ...(volumeMode === 'Filesystem' ? { 'alerts.k8s.io/KubePersistentVolumeFillingUp': 'disabled' } : {}),
    // after CDI's own, as in CDI's newPersistentVolumeClaim: people select by `app`
    ...withoutMarks(metadata.labels),
  };
}

function claimSpec(
  { spec }: DataVolume,
  target: ClaimShape & { readonly volume?: string },
): NonNullable<V1PersistentVolumeClaim['spec']> {
  const limits = (spec.storage ?? spec.pvc)?.resources?.limits;
  return {
    accessModes: [...target.accessModes],
    volumeMode: target.volumeMode,
    storageClassName: target.storageClass,
    ...(target.volume === undefined ? {} : { volumeName: target.volume }),
    resources: {
      requests: { storage: formatQuantity(target.requestBytes) },
      ...(limits ? { limits } : {}),
    },
  };
}

function claimAnnotations(
  { metadata, spec }: DataVolume,
  target: TargetPlan,
  workflowId: string,
): Record<string, string> {
  const { namespace, name, uid, annotations } = metadata;
  return {
    ...withoutMarks(annotations),
    [CDI_ANNOTATIONS.podRestarts]: '0',
    // clients that find the claim know by it that they may send
    ...(spec.source?.['upload']
      ? { [CDI_ANNOTATIONS.uploadTarget]: '', [CDI_ANNOTATIONS.podReady]: 'false' }
      : {}),
    [CDI_ANNOTATIONS.contentType]: spec.contentType || 'kubevirt',
    [CDI_ANNOTATIONS.preallocation]: String(target.preallocation),
    [CDI_ANNOTATIONS.createdFor]: uid,
    [MARKS.workflowId]: workflowId,
    [MARKS.dataVolume]: `${namespace}/${name}`,
  };
}

/** What the user wrote on the DataVolume, as CDI copies it to the claim, without anything that only dvflow may write. */
function withoutMarks(written: Readonly<Record<string, string>> = {}): Record<string, string> {
  return Object.fromEntries(
    Object.entries(written).filter(([key]) => !key.startsWith(MARK_PREFIX) && !NOT_COPIED.includes(key)),
  );
}

/** An image may say what a machine is to be like, not what CDI or dvflow have done. */
function withoutOwn(labels: ClaimParts['labels'] = {}): Record<string, string> {
  const own = [MARK_PREFIX, `${CDI_GROUP}/`];
  return Object.fromEntries(
    Object.entries(labels).filter(([key]) => !own.some((prefix) => key.startsWith(prefix))),
  );
}

/** KubeVirt takes a claim without this owner as populated, so it is there from the first moment (`clients.md` §3.4). */
export function ownerReference({ name, uid }: DataVolumeRef): V1OwnerReference {
  return {
    apiVersion: `${CDI_GROUP}/${CDI_VERSION}`,
    kind: 'DataVolume',
    name,
    uid,
    controller: true,
    blockOwnerDeletion: true,
  };
}
