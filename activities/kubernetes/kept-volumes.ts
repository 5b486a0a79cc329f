/**
 * Volumes that are kept for a claim with what they hold (CDI's `storage.checkStaticVolume`): a backup, a disaster recovery or an
 * administrator gives one back. Its claim is made, and the DataVolume has succeeded once it is Bound; nothing is written.
 */
import type { V1PersistentVolume, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { failureTypeOf, permanentFailure } from '../failures.js';
import type { ClaimVerdict } from './adoption.js';
import { keptClaimBody } from './claim-body.js';
import { changeClaimIfThere, claimLost, controllerOf } from './claim-object.js';
import { requestOf, templateOf } from './claim-template.js';
import { callUnlessConflict, listVolumes } from './client.js';
import type { Kubernetes } from './client.js';
import { CDI_ANNOTATIONS, MARKS } from './names.js';
import type { CdiConfig, ClaimTemplate, DataVolume } from './objects.js';
import { filesystemOverhead } from './overhead.js';
import { sizeBytes } from './quantity.js';
import { capacityOf, isKeptFor, misfitOf, type WantedVolume } from './volume-choice.js';

/** The DataVolume asks for a volume that is kept for its claim, as it is; what it says is on the claim that is made for it too. */
export function asksForKept({ metadata }: DataVolume | V1PersistentVolumeClaim): boolean {
  return metadata?.annotations?.[CDI_ANNOTATIONS.checkStaticVolume] !== undefined;
}

/**
 * The verdict on a DataVolume that asks for the volume which is kept for its claim; `undefined` where there is none, and it is to be
 * filled as any other. The claim is nobody's until it is Bound: neither a failure nor the end of the DataVolume may take the volume
 * along before, whatever its reclaim policy.
 *
 * @throws {@link FailureType} `IncompatiblePVC` where the volume does not fit, since one that is to be kept is not to be replaced by
 * another; `ClaimLost` where the claim lost its volume or was bound to another one
 */
export async function judgeKept(
  kubernetes: Kubernetes,
  dataVolume: DataVolume,
  {
    claim,
    config,
  }: { readonly claim: V1PersistentVolumeClaim | undefined; readonly config?: CdiConfig | undefined },
): Promise<ClaimVerdict | undefined> {
  if (!asksForKept(dataVolume)) return undefined;
  if (claim) return isForKept(claim, dataVolume) ? await settle(kubernetes, dataVolume, claim) : undefined;
  const volume = chooseKept(dataVolume, await listVolumes(kubernetes));
  return volume && (await claimKept(kubernetes, dataVolume, { volume, config }));
}

/** Whether a volume is kept for a claim that its DataVolume has not got yet. */
export function isKeptForLater(dataVolume: DataVolume, volumes: readonly V1PersistentVolume[]): boolean {
  return asksForKept(dataVolume) && keptFor(dataVolume, volumes).length > 0;
}

function keptFor(dataVolume: DataVolume, volumes: readonly V1PersistentVolume[]): V1PersistentVolume[] {
  const { volumeName } = templateOf(dataVolume).template;
  return volumes.filter(
    (volume) =>
      isKeptFor(volume, dataVolume.metadata) &&
      // one that is being filled, or was left half filled, holds no disk yet
      volume.metadata?.labels?.[MARKS.unpublished] === undefined &&
      !volume.metadata?.deletionTimestamp &&
      (!volumeName || volume.metadata?.name === volumeName),
  );
}

/** The smallest that fits, as Kubernetes chooses. @throws {@link FailureType} `IncompatiblePVC` */
function chooseKept(
  dataVolume: DataVolume,
  volumes: readonly V1PersistentVolume[],
): V1PersistentVolume | undefined {
  const kept = keptFor(dataVolume, volumes);
  const judged = kept.map((volume) => ({ volume, why: misfitOf(volume, wantedOf(dataVolume, volume)) }));
  const [best] = judged
    .filter(({ why }) => why === undefined)
    .sort((a, b) => (capacityOf(a.volume) < capacityOf(b.volume) ? -1 : 1));
  const [misfit] = judged;
  if (best || !misfit) return best?.volume;
  const { namespace, name } = dataVolume.metadata;
  throw permanentFailure(
    'IncompatiblePVC',
    `PersistentVolume ${misfit.volume.metadata?.name} is kept for claim ${namespace}/${name}, which cannot have it: it ${misfit.why}`,
  );
}

/** What the DataVolume says of its claim; what it leaves open is the volume's. */
function wantedOf(dataVolume: DataVolume, { spec }: V1PersistentVolume): WantedVolume {
  const { namespace, name } = dataVolume.metadata;
  const { api, template } = templateOf(dataVolume);
  const { storageClassName, selector, volumeMode, accessModes } = template;
  const mode = volumeMode ?? (api === 'pvc' ? 'Filesystem' : spec?.volumeMode);
  return {
    namespace,
    name,
    volumeMode: mode === 'Block' ? 'Block' : 'Filesystem',
    accessModes: accessModes?.length ? accessModes : (spec?.accessModes ?? []),
    requestBytes: askedBytes(template, api) ?? 0,
    ...(storageClassName === undefined ? {} : { storageClass: storageClassName }),
    ...(selector ? { selector } : {}),
  };
}

function askedBytes(template: ClaimTemplate, api: string): number | undefined {
  const asked = template.resources?.requests?.storage;
  return asked === undefined ? undefined : sizeBytes(asked, `spec.${api}.resources.requests.storage`);
}

/** Makes the claim. It is bound within a moment, whatever its class says of consumers: it names the volume. */
async function claimKept(
  { core }: Kubernetes,
  dataVolume: DataVolume,
  { volume, config }: { readonly volume: V1PersistentVolume; readonly config?: CdiConfig | undefined },
): Promise<ClaimVerdict> {
  const { namespace, name } = dataVolume.metadata;
  const { accessModes, volumeMode } = wantedOf(dataVolume, volume);
  const storageClass = volume.spec?.storageClassName ?? '';
  const requestBytes = requestFor(dataVolume, volume, config);
  const target = { accessModes, volumeMode, storageClass, requestBytes, volume: volume.metadata?.name ?? '' };
  try {
    // one that exists by now is judged at the next look
    await callUnlessConflict(
      `creating claim ${namespace}/${name}`,
      core.createNamespacedPersistentVolumeClaim({ namespace, body: keptClaimBody(dataVolume, target) }),
    );
  } catch (error) {
    if (failureTypeOf(error) !== 'ExceededQuota') throw error;
    return { claim: 'wait', waiting: { reason: 'ErrExceededQuota', message: (error as Error).message } };
  }
  return awaitBound(dataVolume, [target.volume]);
}

/** What the DataVolume asks for, with the overhead that it was made with at the time: it may be another one by now. */
function requestFor(
  dataVolume: DataVolume,
  volume: V1PersistentVolume,
  config: CdiConfig | undefined,
): number {
  const { api, template } = templateOf(dataVolume);
  const capacity = Number(capacityOf(volume));
  if (template.resources?.requests?.storage === undefined) return capacity;
  const block = volume.spec?.volumeMode === 'Block';
  const overhead = block ? 0 : filesystemOverhead(config, volume.spec?.storageClassName ?? '');
  return Math.min(capacity, requestOf(template, api, overhead, undefined));
}

/** dvflow, or CDI before it, made the claim for a kept volume, and has not seen it Bound. */
function isForKept(claim: V1PersistentVolumeClaim, dataVolume: DataVolume): boolean {
  const { annotations = {}, labels = {}, deletionTimestamp } = claim.metadata ?? {};
  const owner = controllerOf(claim);
  return (
    annotations[CDI_ANNOTATIONS.persistentVolumeList] !== undefined &&
    // what is being filled has its user's annotations too, and no kept volume
    labels[MARKS.unpublished] === undefined &&
    !deletionTimestamp &&
    (!owner || owner.uid === dataVolume.metadata.uid)
  );
}

/** Waits until the claim is Bound, then says whose data it holds: from then on it is a restored claim like any other. */
async function settle(
  kubernetes: Kubernetes,
  dataVolume: DataVolume,
  { metadata, spec, status }: V1PersistentVolumeClaim,
): Promise<ClaimVerdict> {
  const { namespace, name } = dataVolume.metadata;
  const claim = { namespace, name, uid: metadata?.uid ?? '' };
  const volumes = volumesIn(metadata?.annotations?.[CDI_ANNOTATIONS.persistentVolumeList]);
  if (status?.phase === 'Lost') throw claimLost(claim);
  if (status?.phase !== 'Bound') return awaitBound(dataVolume, volumes);
  if (!volumes.includes(spec?.volumeName ?? '')) {
    throw permanentFailure(
      'ClaimLost',
      `claim ${namespace}/${name} was bound to PersistentVolume ${spec?.volumeName}, not to ${volumes.join(' or ')}, kept for it`,
    );
  }
  const annotations = {
    [CDI_ANNOTATIONS.populatedFor]: name,
    [CDI_ANNOTATIONS.persistentVolumeList]: null,
    // a DataVolume of the name may have gone since the claim was made
    [CDI_ANNOTATIONS.createdFor]: dataVolume.metadata.uid,
  };
  const answer = await changeClaimIfThere(kubernetes, claim, { metadata: { uid: claim.uid, annotations } });
  return answer === 'gone' ? awaitBound(dataVolume, volumes) : { claim: 'adopt', adoptUid: claim.uid };
}

function volumesIn(list = ''): readonly string[] {
  try {
    const volumes: unknown = JSON.parse(list);
    return Array.isArray(volumes) ? volumes.filter((one) => typeof one === 'string') : [];
  } catch {
    return [];
  }
}

function awaitBound({ metadata }: DataVolume, volumes: readonly string[]): ClaimVerdict {
  const { namespace, name } = metadata;
  const message = `claim ${namespace}/${name} to be Bound to PersistentVolume ${volumes.join(' or ')}, which is kept for it`;
  return { claim: 'wait', waiting: { reason: 'Pending', message } };
}
