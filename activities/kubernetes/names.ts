/** Names that Kubernetes objects carry, each written once. CDI's are those of `cdi.md` §6 and `clients.md`. */
import type { ClaimRef, DataVolumeRef } from '../types.js';

/** API group of DataVolumes and CDIConfig. */
export const CDI_GROUP = 'cdi.kubevirt.io';
/** Stored version of {@link CDI_GROUP}. */
export const CDI_VERSION = 'v1beta1';
/** API group of HostPathProvisioner objects. */
export const HPP_GROUP = 'hostpathprovisioner.kubevirt.io';
/** Stored version of {@link HPP_GROUP}. */
export const HPP_VERSION = 'v1beta1';

/** Namespace of dvflow's control role, and of what operators configure it with. */
export const OWN_NAMESPACE = 'dvflow';

/** Name of hostpath-provisioner's CSI driver; as a name of a CSIDriver object it lets the scheduler look at capacity. */
export const CSI_PROVISIONER = 'kubevirt.io.hostpath-provisioner';

/** Provisioner names that dvflow serves: the one of old manifests, and that of the CSI driver. */
export const HOSTPATH_PROVISIONERS: readonly string[] = ['kubevirt.io/hostpath-provisioner', CSI_PROVISIONER];

/** Access modes that a directory on one node can serve. */
export const HOSTPATH_ACCESS_MODES: readonly string[] = ['ReadWriteOnce', 'ReadWriteOncePod'];

/** Value of `hostPathProvisionerIdentity` on the volumes that dvflow makes: only these are ever reclaimed. */
export const IDENTITY = 'dvflow';

/** Annotations and labels of dvflow's own; guarded by the admission policy of `deploy/`. */
export const MARKS = {
  /** Label: uid of the DataVolume that this object was made for; gone once it is published. */
  unpublished: 'dvflow.io/unpublished',
  /** Annotation: id of the workflow that owns the object. */
  workflowId: 'dvflow.io/workflow-id',
  /** Annotation: `namespace/name` of the DataVolume, for the sweeper. */
  dataVolume: 'dvflow.io/data-volume',
  /** Annotation on a static volume that is reserved: what it was before, as JSON ({@link Before} of `reservations.ts`). */
  reserved: 'dvflow.io/reserved',
  /** Annotation on it: since when (ISO 8601). */
  reservedAt: 'dvflow.io/reserved-at',
  /** Annotation on a claim: the static volume that is filled for it. */
  reservedVolume: 'dvflow.io/reserved-volume',
  /** Annotation on a claim: its volume was handed over; a change makes Kubernetes look at it at once. */
  handedOver: 'dvflow.io/handed-over',
  /** Annotation on a claim: run that found it left by an earlier one, and goes on with it. */
  renewedBy: 'dvflow.io/renewed-by',
  /** Label on a volume that dvflow made over a file, and what it is: `block`. */
  localVolume: 'dvflow.io/local-volume',
  /** Annotation on such a volume: the pool that holds the file. */
  pool: 'dvflow.io/pool',
  /** Annotation on it: run of the workflow that made it. */
  madeBy: 'dvflow.io/made-by',
  /** Annotation on a DataVolume, or on a claim that failed to be uploaded into: a new value asks for another run. */
  retry: 'dvflow.io/retry',
  /** Annotation on it: the value of `retry` that was answered last. */
  retried: 'dvflow.io/retried',
  /** Annotation on a DataVolume: run id that answered, so that a repeated attempt of that run goes on. */
  retriedBy: 'dvflow.io/retried-by',
  /** Annotation on a scratch claim: a new value makes Kubernetes look at it. */
  touched: 'dvflow.io/touched',
  /** Annotation on a DataVolume while it is cloned: `namespace/name` of the claim that is cloned. */
  cloneSource: 'dvflow.io/clone-source',
  /** Annotation on a DataVolume or claim: `true` keeps an upload as it comes in scratch space. */
  uploadSpool: 'dvflow.io/upload-spool',
  /** Annotation on a DataVolume or HostPathProvisioner: how long it may go without progress. */
  deadline: 'dvflow.io/deadline',
  /** Annotation on a HostPathProvisioner: the StorageClasses to make for it. */
  storageClass: 'dvflow.io/storage-class',
} as const;

/** Finalizer of the volumes that dvflow empties: they stay until their data is gone (`volume-finalizer.ts`). */
export const RECLAIM_FINALIZER = 'dvflow.io/reclaim';

/** Provisioner of classes whose volumes somebody makes by hand. */
export const NO_PROVISIONER = 'kubernetes.io/no-provisioner';

/** Every name that only dvflow may put on an object starts so. */
export const MARK_PREFIX = 'dvflow.io/';

/** CDI's annotations, as CDI spells them. */
export const CDI_ANNOTATIONS = {
  allowClaimAdoption: 'cdi.kubevirt.io/allowClaimAdoption',
  /** On a DataVolume: a volume that names its claim is taken as it is. */
  checkStaticVolume: 'cdi.kubevirt.io/storage.checkStaticVolume',
  createdFor: 'cdi.kubevirt.io/createdForDataVolume',
  contentType: 'cdi.kubevirt.io/storage.contentType',
  immediate: 'cdi.kubevirt.io/storage.bind.immediate.requested',
  podPhase: 'cdi.kubevirt.io/storage.pod.phase',
  podReady: 'cdi.kubevirt.io/storage.pod.ready',
  uploadTarget: 'cdi.kubevirt.io/storage.upload.target',
  podRestarts: 'cdi.kubevirt.io/storage.pod.restarts',
  /** On a claim that waits for one of these volumes (JSON), which holds its data already. */
  persistentVolumeList: 'cdi.kubevirt.io/storage.persistentVolumeList',
  populatedFor: 'cdi.kubevirt.io/storage.populatedFor',
  preallocation: 'cdi.kubevirt.io/storage.preallocation.requested',
  preallocated: 'cdi.kubevirt.io/storage.preallocation',
  prePopulated: 'cdi.kubevirt.io/storage.prePopulated',
  usePopulator: 'cdi.kubevirt.io/storage.usePopulator',
  minimumClaimSize: 'cdi.kubevirt.io/minimumSupportedPvcSize',
  requiresScratch: 'cdi.kubevirt.io/storage.import.requiresScratch',
  cloneStrategy: 'cdi.kubevirt.io/clone-strategy',
  configAuthority: 'cdi.kubevirt.io/configAuthority',
} as const;

/** Annotation by which a user or the provisioner names the node of a hostpath volume. */
export const PROVISION_ON_NODE = 'kubevirt.io/provisionOnNode';
/** Annotation by which the scheduler names the node of a claim's first consumer. */
export const SELECTED_NODE = 'volume.kubernetes.io/selected-node';
/** Annotation that tells who made a volume; without it Kubernetes' own deleter may remove the data. */
export const PROVISIONED_BY = 'pv.kubernetes.io/provisioned-by';
/** Node label that a volume's nodeAffinity names. */
export const HOSTNAME_LABEL = 'kubernetes.io/hostname';

/** Name of the PersistentVolume that dvflow makes for a claim, and of the Secret copy of a DataVolume. */
export function volumeName(claimUid: string): string {
  return `pvc-${claimUid}`;
}

/** Id of the workflow that the watch starts for a DataVolume: `dataVolumeWorkflowId` of the workflows, which activities do not import. */
export function lifecycleWorkflowId({ namespace, name, uid }: DataVolumeRef): string {
  return `datavolume/${namespace}/${name}/${uid}`;
}

/** Id of the run that makes a plain claim's volume: `provisionWorkflowId` of the workflows. */
export function provisionWorkflowId({ namespace, name, uid }: ClaimRef): string {
  return `provision/${namespace}/${name}/${uid}`;
}

/** Id of the run that fills a claim which asks for an upload: `uploadClaimWorkflowId` of the workflows. */
export function uploadClaimWorkflowId({ namespace, name, uid }: ClaimRef): string {
  return `upload/${namespace}/${name}/${uid}`;
}

/** Name of the claim, which nobody creates, that holds a volume for a DataVolume. */
export function reservationName(dataVolumeUid: string): string {
  return `reserved-${dataVolumeUid}`;
}

/** Name of the copy of credentials in `dvflow-transfers`. */
export function credentialsName(dataVolumeUid: string): string {
  return `transfer-${dataVolumeUid}`;
}

/** Name of claim and PersistentVolume of a DataVolume's scratch space, after CDI's; with the DataVolume's uid, as all of dvflow's own. */
export function scratchName(dataVolumeUid: string): string {
  return `prime-${dataVolumeUid}-scratch`;
}
