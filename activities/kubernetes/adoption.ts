/** CDI's rules for a claim that has the DataVolume's name already (`cdi.md` §1.6, §6.4; `clients.md` §3.2). */
import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { permanentFailure } from '../failures.js';
import type { TargetPlan } from '../types.js';
import type { Kubernetes } from './client.js';
import { controllerOf, findClaimNamed } from './claim-object.js';
import { judgeKept } from './kept-volumes.js';
import { CDI_ANNOTATIONS, MARKS, volumeName } from './names.js';
import type { CdiConfig, DataVolume } from './objects.js';
import { awaitsData, isLeftByCdi } from './plain-claims.js';

/** What to do about the claim. */
export type ClaimVerdict = Pick<TargetPlan, 'claim' | 'adoptUid' | 'waiting'>;

/**
 * Judges the claim that exists, if there is one. Where a volume with data is kept for it, and the DataVolume asks for that, it is made.
 *
 * @throws {@link FailureType} `ResourceExists`; `IncompatiblePVC`, `ClaimLost` where a volume is kept for the claim
 */
export async function judgeClaim(
  kubernetes: Kubernetes,
  dataVolume: DataVolume,
  config: CdiConfig | undefined,
): Promise<ClaimVerdict> {
  const { namespace, name, annotations } = dataVolume.metadata;
  const claim = await findClaimNamed(kubernetes, { namespace, name });
  // somebody else makes the claim
  if (!claim && annotations?.[CDI_ANNOTATIONS.prePopulated] !== undefined) return { claim: 'wait' };
  const kept = await judgeKept(kubernetes, dataVolume, { claim, config });
  if (kept) return kept;
  return claim ? judge(claim, dataVolume, config) : { claim: 'create' };
}

/** The verdict on a claim; one that is going is waited for, whoever made it. @throws {@link FailureType} `ResourceExists` */
export function judge(
  claim: V1PersistentVolumeClaim,
  dataVolume: DataVolume,
  config: CdiConfig | undefined,
): ClaimVerdict {
  const { name, uid } = dataVolume.metadata;
  const annotations = claim.metadata?.annotations ?? {};
  const owner = controllerOf(claim);
  const maker = claim.metadata?.labels?.[MARKS.unpublished];
  if (annotations[CDI_ANNOTATIONS.createdFor] === uid || maker === uid) return judgeOwn(claim);
  // the DataVolume of that name is this one, so the owner is gone and the garbage collector on its way
  if (owner?.kind === 'DataVolume' && owner.name === name && owner.uid !== uid) {
    return goingAway(claim, `belongs to an earlier DataVolume ${name} and`);
  }
  if (claim.metadata?.deletionTimestamp) return goingAway(claim);
  // whose DataVolume is gone, or has let it go: what becomes of it is seen when the run that fills it ends
  if (maker !== undefined && !isOffered(claim)) return { claim: 'wait', waiting: otherRun(claim) };
  if (owner?.uid === uid) return adopted(claim, isLeftByCdi(claim));
  if (owner) throw exists(claim, `is managed by ${owner.kind} ${owner.name}`);
  if (annotations[CDI_ANNOTATIONS.populatedFor] === name) return adopted(claim, false);
  if (mayAdopt(dataVolume, config)) return adopted(claim, awaitsData(claim));
  throw exists(claim, 'is not managed by the DataVolume');
}

/** A disk that nobody has finished is no disk. @throws {@link FailureType} `ResourceExists` */
function adopted(claim: V1PersistentVolumeClaim, isUnfinished: boolean): ClaimVerdict {
  if (!isUnfinished) return { claim: 'adopt', adoptUid: uidOf(claim) };
  const phase = claim.metadata?.annotations?.[CDI_ANNOTATIONS.podPhase] ?? 'absent';
  throw exists(
    claim,
    `has no complete disk: ${CDI_ANNOTATIONS.podPhase} is ${phase}, not Succeeded; delete it to have it made anew`,
  );
}

function otherRun({ metadata }: V1PersistentVolumeClaim): NonNullable<ClaimVerdict['waiting']> {
  const run = metadata?.annotations?.[MARKS.workflowId];
  const message = `claim ${metadata?.namespace}/${metadata?.name} is being filled for another DataVolume${run ? ` by workflow ${run}` : ''}`;
  return { reason: 'ErrResourceExists', message };
}

/** A claim of this very DataVolume: what is published holds a finished disk and is never filled again. */
function judgeOwn(claim: V1PersistentVolumeClaim): ClaimVerdict {
  if (claim.metadata?.deletionTimestamp) return goingAway(claim, 'is of an earlier run and');
  return isOffered(claim) ? adopted(claim, isLeftByCdi(claim)) : { claim: 'create' };
}

/** The claim has its volume, or had: dvflow makes one only for a complete disk. */
export function isOffered({ metadata, spec, status }: V1PersistentVolumeClaim): boolean {
  // one that waits for a static volume names it from the beginning
  const waits = metadata?.annotations?.[MARKS.reservedVolume] !== undefined;
  return (
    (Boolean(spec?.volumeName) && !waits) ||
    status?.phase === 'Bound' ||
    metadata?.labels?.[MARKS.unpublished] === undefined
  );
}

/** Fails for a claim that Kubernetes bound to another volume than the one that is made for it, or reserved. @throws {@link FailureType} `ClaimLost` */
export function refuseForeignVolume(
  { metadata, spec }: V1PersistentVolumeClaim,
  own = volumeName(metadata?.uid ?? ''),
): void {
  const { namespace, name } = metadata ?? {};
  if (!spec?.volumeName || spec.volumeName === own) return;
  throw permanentFailure(
    'ClaimLost',
    `claim ${namespace}/${name} was bound to PersistentVolume ${spec.volumeName}, not to ${own}`,
  );
}

function mayAdopt({ metadata }: DataVolume, config: CdiConfig | undefined): boolean {
  const told = metadata.annotations?.[CDI_ANNOTATIONS.allowClaimAdoption];
  if (told !== undefined) return told === 'true';
  return config?.spec?.featureGates?.includes('DataVolumeClaimAdoption') ?? false;
}

function uidOf(claim: V1PersistentVolumeClaim): string {
  return claim.metadata?.uid ?? '';
}

/** It may take long: Kubernetes keeps a claim as long as a pod uses it. */
function goingAway(claim: V1PersistentVolumeClaim, why?: string): ClaimVerdict {
  const { namespace, name } = claim.metadata ?? {};
  const what = [`claim ${namespace}/${name}`, ...(why ? [why] : []), 'is being removed'].join(' ');
  const message = `${what}, once no pod uses it any more`;
  return { claim: 'wait', waiting: { reason: 'ErrResourceMarkedForDeletion', message } };
}

function exists(claim: V1PersistentVolumeClaim, why: string): Error {
  const { namespace, name } = claim.metadata ?? {};
  return permanentFailure('ResourceExists', `claim ${namespace}/${name} already exists and ${why}`);
}
