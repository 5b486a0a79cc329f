/** Volumes that an administrator made: Kubernetes would bind the claim to one of them before its disk is filled. */
import type { V1PersistentVolume } from '@kubernetes/client-node';
import { permanentFailure } from '../failures.js';
import type { TargetPlan } from '../types.js';
import { asksForKept } from './kept-volumes.js';
import { CDI_ANNOTATIONS } from './names.js';
import type { DataVolume } from './objects.js';
import { parseQuantity } from './quantity.js';
import { isKeptFor } from './volume-choice.js';

/**
 * A volume that names the claim would be bound to it as soon as the claim exists, whatever it holds.
 *
 * @throws {@link FailureType} `IncompatiblePVC`
 */
export function refuseReservedVolume(volumes: readonly V1PersistentVolume[], dataVolume: DataVolume): void {
  const { namespace, name } = dataVolume.metadata;
  const reserved = volumes.find(
    (volume) => isKeptFor(volume, { namespace, name }) && volume.status?.phase !== 'Released',
  );
  if (!reserved) return;
  const todo = asksForKept(dataVolume)
    ? 'it came, or goes, while the claim was planned: retry to have it as it is'
    : `name it in volumeName to have it filled, annotate the DataVolume with ${CDI_ANNOTATIONS.checkStaticVolume} to have it ` +
      'as it is, or remove it';
  throw permanentFailure(
    'IncompatiblePVC',
    `PersistentVolume ${reserved.metadata?.name} is reserved for claim ${namespace}/${name}, whose class is provisioned: ${todo}`,
  );
}

/**
 * A free volume of the same class would be taken: at once where the class binds immediately, else with the claim's first consumer.
 *
 * @throws {@link FailureType} `IncompatiblePVC`
 */
export function refuseMatchingVolume(volumes: readonly V1PersistentVolume[], target: TargetPlan): void {
  const match = volumes.find((volume) => isFree(volume) && serves(volume, target));
  if (!match) return;
  throw permanentFailure(
    'IncompatiblePVC',
    `PersistentVolume ${match.metadata?.name} (${match.spec?.capacity?.storage}) of StorageClass "${target.storageClass}" is ` +
      `Available, and Kubernetes would bind the claim of ${target.requestBytes} bytes to it: name it in volumeName to have it ` +
      'filled, remove it, or give it another class',
  );
}

function isFree({ metadata, spec, status }: V1PersistentVolume): boolean {
  return status?.phase === 'Available' && !spec?.claimRef && !metadata?.deletionTimestamp;
}

function serves({ spec }: V1PersistentVolume, target: TargetPlan): boolean {
  const { storageClass, volumeMode, accessModes, requestBytes } = target;
  return (
    (spec?.storageClassName ?? '') === storageClass &&
    (spec?.volumeMode ?? 'Filesystem') === volumeMode &&
    accessModes.every((mode) => spec?.accessModes?.includes(mode)) &&
    (parseQuantity(spec?.capacity?.storage ?? '0') ?? 0n) >= BigInt(requestBytes)
  );
}
