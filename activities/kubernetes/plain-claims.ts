/** Which claims are plain ones of a hostpath class, to be provisioned empty, and which others fill (`design.md` §6). */
import type { V1PersistentVolumeClaim, V1StorageClass } from '@kubernetes/client-node';
import {
  CDI_ANNOTATIONS,
  HOSTPATH_ACCESS_MODES,
  HOSTPATH_PROVISIONERS,
  MARKS,
  PROVISION_ON_NODE,
} from './names.js';
import { parseQuantity } from './quantity.js';

/**
 * Annotation by which Kubernetes asks a provisioner for a volume: no existing one matches, and for `WaitForFirstConsumer` the
 * scheduler has named a node.
 */
const STORAGE_PROVISIONER = 'volume.kubernetes.io/storage-provisioner';

/** Annotations of claims that somebody fills: an empty volume would be taken for the data. */
const FILLED_BY_OTHERS: readonly string[] = [
  CDI_ANNOTATIONS.uploadTarget,
  'cdi.kubevirt.io/storage.import.endpoint',
  'k8s.io/CloneRequest',
  CDI_ANNOTATIONS.createdFor,
];

/** Claims that CDI fills, or fills at their user's wish, say so by one of these. */
const FILLED_BY_CDI: readonly string[] = [
  'cdi.kubevirt.io/storage.import.endpoint',
  'cdi.kubevirt.io/storage.import.source',
  'cdi.kubevirt.io/storage.uploadPodName',
  'k8s.io/CloneRequest',
];

/** Name of the claim's class; the annotation is the spelling of Kubernetes before 1.6, which goes before the field. */
export function classNameOf({ metadata, spec }: V1PersistentVolumeClaim): string | undefined {
  return metadata?.annotations?.['volume.beta.kubernetes.io/storage-class'] ?? spec?.storageClassName;
}

/** A class that dvflow is the provisioner of. */
export function isHostpathClass({ provisioner }: Pick<V1StorageClass, 'provisioner'>): boolean {
  return HOSTPATH_PROVISIONERS.includes(provisioner);
}

/** The claim waits for data, which comes with its volume: from a DataVolume, an upload, a clone or a populator. */
export function waitsForData({ metadata, spec }: V1PersistentVolumeClaim): boolean {
  const { annotations = {}, labels = {} } = metadata ?? {};
  return (
    Boolean(spec?.dataSourceRef ?? spec?.dataSource) ||
    labels[MARKS.unpublished] !== undefined ||
    FILLED_BY_OTHERS.some((name) => annotations[name] !== undefined)
  );
}

/** Whatever fills the claim has not said that it is done (CDI's `IsPopulated`). */
export function awaitsData(claim: Pick<V1PersistentVolumeClaim, 'metadata'>): boolean {
  return isLeftByCdi(claim) || (asksForUpload(claim) && !hasData(claim));
}

/** CDI itself has begun to fill the claim, and has not finished it: where dvflow serves DataVolumes by now, nobody will. */
export function isLeftByCdi(claim: Pick<V1PersistentVolumeClaim, 'metadata'>): boolean {
  const { annotations = {} } = claim.metadata ?? {};
  return FILLED_BY_CDI.some((name) => annotations[name] !== undefined) && !hasData(claim);
}

/** Whatever filled the claim has said that it is done. */
export function hasData({ metadata }: Pick<V1PersistentVolumeClaim, 'metadata'>): boolean {
  return metadata?.annotations?.[CDI_ANNOTATIONS.podPhase] === 'Succeeded';
}

/** The claim carries the annotation by which its user, or its DataVolume, asks for an upload. */
export function asksForUpload({ metadata }: Pick<V1PersistentVolumeClaim, 'metadata'>): boolean {
  return metadata?.annotations?.[CDI_ANNOTATIONS.uploadTarget] !== undefined;
}

/** Value of `dvflow.io/retry` on a claim that has failed, for which no run has been made yet. */
export function unansweredRetry({ metadata }: V1PersistentVolumeClaim): string | undefined {
  const { annotations = {} } = metadata ?? {};
  const retry = annotations[MARKS.retry];
  const failed = annotations[CDI_ANNOTATIONS.podPhase] === 'Failed';
  return failed && retry && retry !== annotations[MARKS.retried] ? retry : undefined;
}

/**
 * The claim asks for an upload and no DataVolume does so for it; it has neither its disk nor a final failure, unless it is to be
 * tried again.
 */
export function isUploadTarget(claim: V1PersistentVolumeClaim): boolean {
  const { metadata, spec, status } = claim;
  const { annotations = {}, ownerReferences = [], deletionTimestamp } = metadata ?? {};
  const owned = ownerReferences.some(({ kind, controller }) => kind === 'DataVolume' && controller === true);
  const over =
    ['Succeeded', 'Failed'].includes(annotations[CDI_ANNOTATIONS.podPhase] ?? '') &&
    unansweredRetry(claim) === undefined;
  return (
    asksForUpload(claim) &&
    annotations[CDI_ANNOTATIONS.createdFor] === undefined &&
    !(owned || over || deletionTimestamp || spec?.dataSourceRef || spec?.dataSource) &&
    ['Pending', 'Bound'].includes(status?.phase ?? 'Pending')
  );
}

/** The claim has no volume, none is coming, and it may still get one. */
export function isPending({ metadata, spec, status }: V1PersistentVolumeClaim): boolean {
  const { phase = 'Pending' } = status ?? {};
  return phase === 'Pending' && !spec?.volumeName && !metadata?.deletionTimestamp;
}

/**
 * Whether this claim is to get an empty volume now: Kubernetes asks one of our provisioners for it, or its user names the node,
 * which goes before the scheduler.
 */
export function asksForVolume(
  claim: V1PersistentVolumeClaim,
  storageClass: Pick<V1StorageClass, 'provisioner'> | undefined,
): boolean {
  if (!isPending(claim) || waitsForData(claim)) return false;
  const annotations = claim.metadata?.annotations ?? {};
  if (HOSTPATH_PROVISIONERS.includes(annotations[STORAGE_PROVISIONER] ?? '')) return true;
  return (
    annotations[PROVISION_ON_NODE] !== undefined &&
    storageClass !== undefined &&
    isHostpathClass(storageClass)
  );
}

/** Why no volume of a hostpath class can ever serve the claim, in the words of hostpath-provisioner where it has any. */
export function refusalOf(claim: V1PersistentVolumeClaim, provisioner: string): string | undefined {
  const { volumeMode, accessModes = [], selector, resources } = claim.spec ?? {};
  // `canProvision` of sig-storage-lib-external-provisioner, which hostpath-provisioner is built on
  if (volumeMode === 'Block') return `${provisioner} does not support block volume provisioning`;
  const mode = accessModes.find((asked) => !HOSTPATH_ACCESS_MODES.includes(asked));
  if (mode) return `accessMode is ${mode}: ${provisioner} offers ReadWriteOnce (or ReadWriteOncePod)`;
  if (selector) return `${provisioner} does not support selectors: they choose among existing volumes`;
  const request = parseQuantity(resources?.requests?.storage ?? '0') ?? 0n;
  if (request > BigInt(Number.MAX_SAFE_INTEGER))
    return `the claim requests ${request} bytes, more than ${Number.MAX_SAFE_INTEGER}, the largest size supported`;
  return undefined;
}
