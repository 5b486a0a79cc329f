/** Whether a claim can be uploaded into now, by the annotations that CDI tells its clients with (`cdi.md` §3.3). */
import { setTimeout as pause } from 'node:timers/promises';
import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { callIfFound, type Kubernetes } from '../../activities/kubernetes/client.js';
import { findClaimNamed } from '../../activities/kubernetes/claim-object.js';
import { CDI_ANNOTATIONS, MARKS } from '../../activities/kubernetes/names.js';
import { parseQuantity } from '../../activities/kubernetes/quantity.js';
import type { ContentType } from '../../activities/types.js';
import { TokenError, type UploadToken } from './tokens.js';

/** A claim that takes an upload now. */
export interface UploadClaim {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly contentType: ContentType;
  /** Bytes that it asks for. */
  readonly requestBytes: number;
  /** Bytes of the volume that it is Bound to. */
  readonly capacityBytes?: number;
  /** Id of the workflow that serves it, where the claim tells. */
  readonly workflowId?: string;
  /** uid of the DataVolume that controls it. */
  readonly dataVolumeUid?: string;
  /** Its disk is complete. */
  readonly finished?: boolean;
}

/** A claim that takes no upload; answered by 503 with this text, as CDI does. */
export class ClaimNotReadyError extends Error {
  override readonly name = 'ClaimNotReadyError';
  /** Whether it may take one after a while. */
  readonly later: boolean;
  constructor(message: string, later = false) {
    super(message);
    this.later = later;
  }
}

/** How long a claim may take to become ready, and how often it is looked at, in ms; CDI's. */
const READY_WITHIN_MS = 10_000;
const LOOK_EVERY_MS = 500;

/** Options of {@link awaitUploadClaim}. */
export interface AwaitClaimOptions {
  readonly signal?: AbortSignal;
  /** @default 10_000 */
  readonly readyWithinMs?: number;
  /** A claim that is not ready will do: what is being uploaded is not ready for another one. */
  readonly unready?: boolean;
  /** One whose disk is complete will do, too. */
  readonly finished?: boolean;
}

/**
 * Waits until the claim of the token is ready for an upload.
 * @throws ClaimNotReadyError when it is gone, is no target, is finished, or is not ready in time
 * @throws TokenError `invalid` when the claim is another one than that for which the token was made
 */
export async function awaitUploadClaim(
  { core }: Pick<Kubernetes, 'core'>,
  token: UploadToken,
  { signal, readyWithinMs = READY_WITHIN_MS, unready = false, finished = false }: AwaitClaimOptions = {},
): Promise<UploadClaim> {
  const { namespace, name } = token;
  const end = Date.now() + readyWithinMs;
  for (;;) {
    const claim = await findClaimNamed({ core }, { namespace, name });
    if (!claim) throw new ClaimNotReadyError(`rejecting Upload Request for PVC ${name} that doesn't exist`);
    assertBound(token, claim);
    if (finished && isFinished(claim)) return { ...readClaim(claim, { namespace, name }), finished };
    assertTarget(claim, name);
    if (unready || isReady(claim)) return readClaim(claim, { namespace, name });
    if (Date.now() >= end) {
      throw new ClaimNotReadyError(
        `PVC ${name} is not ready for an upload: context deadline exceeded after ${readyWithinMs / 1000} s; ` +
          `see the conditions of its DataVolume, and try again`,
        true,
      );
    }
    await pause(LOOK_EVERY_MS, undefined, signal ? { signal } : {});
  }
}

/**
 * Holds back the good news of an upload whose claim was deleted while it came: its disk goes with it. Where Kubernetes does not
 * answer, the node's word stands.
 * @throws ClaimNotReadyError
 */
export async function assertKept(
  { core }: Pick<Kubernetes, 'core'>,
  { namespace, name, uid }: Pick<UploadClaim, 'namespace' | 'name' | 'uid'>,
): Promise<void> {
  const doing = `reading claim ${namespace}/${name}`;
  const request = core.readNamespacedPersistentVolumeClaim({ namespace, name });
  const found = await callIfFound(doing, request).catch(() => 'unknown' as const);
  if (found === 'unknown') return;
  if (found?.metadata?.uid === uid && !found.metadata.deletionTimestamp) return;
  throw new ClaimNotReadyError(`PVC ${name} was deleted while the upload came: its disk is gone with it`);
}

/** @throws TokenError `invalid`: a token outlives the claim that it was made for */
function assertBound({ claimUid, dataVolumeUid, name }: UploadToken, claim: V1PersistentVolumeClaim): void {
  const { uid } = claim.metadata ?? {};
  if (claimUid !== undefined && claimUid === uid) return;
  if (claimUid === undefined && dataVolumeUid !== undefined && dataVolumeUid === ownerOf(claim)) return;
  throw new TokenError(
    'invalid',
    `the token was made for another claim of the name ${name}: ask for a new one`,
  );
}

/** @throws ClaimNotReadyError */
function assertTarget(claim: V1PersistentVolumeClaim, name: string): void {
  const annotations = claim.metadata?.annotations ?? {};
  if (annotations[CDI_ANNOTATIONS.uploadTarget] === undefined)
    throw new ClaimNotReadyError(`PVC ${name} is not an upload target`);
  if (isFinished(claim))
    throw new ClaimNotReadyError(`rejecting Upload Request for PVC ${name} that already finished uploading`);
}

function isFinished({ metadata }: V1PersistentVolumeClaim): boolean {
  return metadata?.annotations?.[CDI_ANNOTATIONS.podPhase] === 'Succeeded';
}

function isReady({ metadata }: V1PersistentVolumeClaim): boolean {
  return metadata?.annotations?.[CDI_ANNOTATIONS.podReady] === 'true';
}

function readClaim(
  claim: V1PersistentVolumeClaim,
  place: { readonly namespace: string; readonly name: string },
): UploadClaim {
  const annotations = claim.metadata?.annotations ?? {};
  const contentType = annotations[CDI_ANNOTATIONS.contentType] || 'kubevirt';
  if (contentType !== 'kubevirt' && contentType !== 'archive') {
    throw new ClaimNotReadyError(
      `rejecting upload request for PVC ${place.name} - upload content-type ${contentType} is invalid`,
    );
  }
  const workflowId = annotations[MARKS.workflowId];
  const dataVolumeUid = ownerOf(claim);
  return {
    ...place,
    uid: claim.metadata?.uid ?? '',
    contentType,
    requestBytes: bytesOf(claim.spec?.resources?.requests),
    ...(claim.status?.phase === 'Bound' ? { capacityBytes: bytesOf(claim.status.capacity) } : {}),
    ...(workflowId === undefined ? {} : { workflowId }),
    ...(dataVolumeUid === undefined ? {} : { dataVolumeUid }),
  };
}

function bytesOf(resources: Readonly<Record<string, string>> | undefined): number {
  return Number(parseQuantity(resources?.['storage'] ?? '0') ?? 0n);
}

function ownerOf({ metadata }: V1PersistentVolumeClaim): string | undefined {
  const owner = metadata?.ownerReferences?.find(
    ({ kind, controller }) => kind === 'DataVolume' && controller,
  );
  return owner?.uid;
}
