/** The PersistentVolume of a filled directory: offered to the claim last, unmarked when the claim has it. */
import { Context } from '@temporalio/activity';
import type { V1PersistentVolume, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { permanentFailure, transientFailure } from '../failures.js';
import type { ControlActivities } from '../interfaces.js';
import type {
  ClaimRef,
  DataVolumeRef,
  FillTarget,
  KeptVolume,
  PublishedVolume,
  ReservedDirectory,
} from '../types.js';
import type { VolumePlan } from '../types/provision.js';
import { refuseForeignVolume } from './adoption.js';
import { callForOutcome, callIfFound, callUnlessConflict, MERGE_PATCH } from './client.js';
import type { Kubernetes } from './client.js';
import { changeClaim, findClaim, readClaim, UNMARKED } from './claim-object.js';
import { handOver, isMadeAnew } from './hand-over.js';
import {
  CDI_ANNOTATIONS,
  HOSTNAME_LABEL,
  IDENTITY,
  MARKS,
  PROVISION_ON_NODE,
  PROVISIONED_BY,
  RECLAIM_FINALIZER,
  volumeName,
} from './names.js';
import { formatQuantity } from './quantity.js';
import { deleteVolumeObject, letGo } from './volume-finalizer.js';

/**
 * Kubernetes binds a claim to a volume that names its uid in a tenth of a second (`kubernetes-mechanisms.md` §1); with hundreds at
 * once it needs a minute, and asking ever more slowly leaves the API server to it. In ms.
 */
const BOUND_POLL_MS = { first: 50, longest: 2_000 } as const;

/** Input of `publishVolume`. */
export interface Publication {
  readonly dataVolume: DataVolumeRef;
  readonly claim: ClaimRef;
  readonly target: VolumePlan;
  readonly directory: FillTarget;
  /** The disk takes all of its room already: CDI's annotation on the claim says so. @default false */
  readonly preallocated?: boolean | undefined;
}

type DirectoryPublication = Publication & { readonly directory: ReservedDirectory };

/** Activities that publish volumes, or take back what was not published. */
export function createVolumeActivities({
  kubernetes,
}: {
  kubernetes: Kubernetes;
}): Pick<ControlActivities, 'publishVolume' | 'deleteUnpublishedVolume'> {
  const { core } = kubernetes;

  async function publishVolume({ directory, ...rest }: Publication): Promise<PublishedVolume> {
    if ('volume' in directory) return await handOver(kubernetes, { ...rest, volume: directory });
    return await publishDirectory({ ...rest, directory });
  }

  async function publishDirectory(publication: DirectoryPublication): Promise<PublishedVolume> {
    const { dataVolume, claim, preallocated } = publication;
    const volume = volumeName(claim.uid);
    try {
      await readClaim(kubernetes, claim);
      await offer(publication);
      await awaitBound(claim);
    } catch (error) {
      if ((await findClaim(kubernetes, claim)) === undefined) await removeVolume(dataVolume, claim);
      throw error;
    }
    // the volume first: a claim without the mark is never swept, whatever happens in between
    await unmarkVolume(kubernetes, volume);
    // a plain claim is its user's, and never marked
    if (claim.uid !== dataVolume.uid) await unmarkClaim(claim, preallocated);
    return { volume };
  }

  async function offer(publication: DirectoryPublication): Promise<void> {
    const { claim, dataVolume } = publication;
    const body = volumeBody(publication, Context.current().info.workflowExecution?.workflowId ?? '');
    const name = volumeName(claim.uid);
    const created = await callUnlessConflict(
      `creating volume ${name}`,
      core.createPersistentVolume({ body }),
    );
    if (created !== 'conflict') return;
    const found = await callIfFound(`reading volume ${name}`, core.readPersistentVolume({ name }));
    if (!found || (found.metadata?.deletionTimestamp && found.status?.phase !== 'Bound')) {
      // the data is this run's, which makes another volume of it
      if (found?.metadata?.labels?.[MARKS.unpublished] === dataVolume.uid)
        await letGo(kubernetes, name, found.metadata.uid ?? '');
      throw transientFailure(
        'KubernetesUnavailable',
        `volume ${name} of an earlier attempt is being removed`,
      );
    }
    if (found.spec?.hostPath?.path === body.spec?.hostPath?.path && found.spec?.claimRef?.uid === claim.uid)
      return;
    throw permanentFailure(
      'ResourceExists',
      `PersistentVolume ${name} already exists and is not of DataVolume ${dataVolume.namespace}/${dataVolume.name}`,
    );
  }

  async function awaitBound(claim: ClaimRef): Promise<void> {
    const context = Context.current();
    for (let pause: number = BOUND_POLL_MS.first; ; pause = Math.min(pause * 1.5, BOUND_POLL_MS.longest)) {
      const found = await readClaim(kubernetes, claim);
      refuseForeignVolume(found);
      if (found.status?.phase === 'Bound') return;
      await context.sleep(pause);
    }
  }

  async function unmarkClaim(claim: ClaimRef, preallocated = false): Promise<void> {
    const annotations = {
      ...UNMARKED.annotations,
      ...(preallocated ? { [CDI_ANNOTATIONS.preallocated]: 'true' } : {}),
    };
    await changeClaim(kubernetes, claim, { metadata: { uid: claim.uid, ...UNMARKED, annotations } });
  }

  async function deleteUnpublishedVolume(
    input: Parameters<ControlActivities['deleteUnpublishedVolume']>[0],
  ): Promise<KeptVolume | undefined> {
    // a volume bears the uid of its claim: without one there is none
    if (input.claim.uid === '') return undefined;
    const claim = await findClaim(kubernetes, input.claim);
    const isKept = claim && hasItsVolume(claim, input.dataVolume);
    if (isKept && !(input.volume && (await isMadeAnew(kubernetes, input.volume)))) return { kept: true };
    return await removeVolume(input.dataVolume, input.claim);
  }

  async function removeVolume({ uid }: DataVolumeRef, claim: ClaimRef): Promise<KeptVolume | undefined> {
    const name = volumeName(claim.uid);
    const found = await callIfFound(`reading volume ${name}`, core.readPersistentVolume({ name }));
    if (found?.metadata?.labels?.[MARKS.unpublished] !== uid) return undefined;
    const { uid: volumeUid = '', resourceVersion = '' } = found.metadata;
    // Kubernetes writes the volume's phase first, the claim's a moment later
    if (found.status?.phase === 'Bound' && (await findClaim(kubernetes, claim))) return { kept: true };
    const outcome = await deleteVolumeObject(kubernetes, name, { uid: volumeUid, resourceVersion });
    if (outcome === 'conflict')
      throw transientFailure('KubernetesUnavailable', `deleting volume ${name}: it changed meanwhile`);
    return undefined;
  }

  return { publishVolume, deleteUnpublishedVolume };
}

/** Declares a volume published: no sweeper comes for it any more. With a version only if it has not changed since. */
export async function unmarkVolume(
  { core }: Kubernetes,
  name: string,
  resourceVersion?: string,
): Promise<void> {
  const body = { metadata: resourceVersion === undefined ? UNMARKED : { ...UNMARKED, resourceVersion } };
  await callForOutcome(`publishing volume ${name}`, core.patchPersistentVolume({ name, body }, MERGE_PATCH));
}

/** Bound to the volume that was made or reserved for it; one that Kubernetes bound to another volume has nothing of ours. */
function hasItsVolume(
  { metadata, spec, status }: V1PersistentVolumeClaim,
  dataVolume: DataVolumeRef,
): boolean {
  if (status?.phase !== 'Bound') return false;
  const { uid = '', labels, annotations } = metadata ?? {};
  if ([volumeName(uid), annotations?.[MARKS.reservedVolume]].includes(spec?.volumeName)) return true;
  // a DataVolume's claim loses its marks when all else is done
  return uid !== dataVolume.uid && labels?.[MARKS.unpublished] === undefined;
}

/** What of a plan shows on the PersistentVolume. */
export type ShownPlan = Pick<
  VolumePlan,
  'accessModes' | 'provisioner' | 'reclaimPolicy' | 'requestBytes' | 'storageClass' | 'volumeMode'
>;

/** The PersistentVolume of a directory, marked as unpublished, for one claim; it stays until its data is gone, unless it is retained. */
export function volumeBody(
  {
    dataVolume,
    claim,
    target,
    directory,
  }: Omit<DirectoryPublication, 'target'> & { readonly target: ShownPlan },
  workflowId: string,
): V1PersistentVolume {
  return {
    metadata: {
      name: volumeName(claim.uid),
      ...(target.reclaimPolicy === 'Delete' ? { finalizers: [RECLAIM_FINALIZER] } : {}),
      labels: { [MARKS.unpublished]: dataVolume.uid },
      annotations: {
        // without it Kubernetes' own deleter feels responsible, and empties what lies under /tmp
        [PROVISIONED_BY]: target.provisioner,
        hostPathProvisionerIdentity: IDENTITY,
        [PROVISION_ON_NODE]: directory.node,
        [MARKS.workflowId]: workflowId,
        [MARKS.dataVolume]: `${dataVolume.namespace}/${dataVolume.name}`,
      },
    },
    spec: {
      accessModes: [...target.accessModes],
      volumeMode: target.volumeMode,
      capacity: { storage: formatQuantity(target.requestBytes) },
      storageClassName: target.storageClass,
      persistentVolumeReclaimPolicy: target.reclaimPolicy,
      hostPath: { path: `${directory.pool}/${directory.directory}`, type: 'Directory' },
      // with the uid it is bound at once, and never to a claim that was made again under the same name
      claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...claim },
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            { matchExpressions: [{ key: HOSTNAME_LABEL, operator: 'In', values: [directory.hostname] }] },
          ],
        },
      },
    },
  };
}
