/** Claims that wait for an upload without a DataVolume: what they ask for, and what is said on them (`clients.md` §1.2, `cdi.md` §3). */
import { permanentFailure } from '../failures.js';
import type { V1PersistentVolumeClaim, V1StorageClass } from '@kubernetes/client-node';
import type { ClaimRef, DataVolumeFacts, Phase, TargetPlan } from '../types.js';
import type { UploadClaim, UploadControlActivities } from '../types/upload.js';
import { boundVolume } from './bound-volume.js';
import { callIfFound } from './client.js';
import type { Kubernetes } from './client.js';
import { refuseForeignVolume } from './adoption.js';
import { changeClaimIfThere, findClaim, readClaim } from './claim-object.js';
import { isOtherWorkflow, refuseOtherWorkflow } from './claim-workflows.js';
import { podsOf, writersOf } from './clone/users.js';
import { invalidDeadline, parseDeadline } from './data-volume-facts.js';
import { recordEvent } from './events.js';
import type { ExecutionObserver } from './executions.js';
import { confirmReserved, refuseBoundEarly } from './hand-over.js';
import { CDI_ANNOTATIONS, MARKS, provisionWorkflowId, uploadClaimWorkflowId, volumeName } from './names.js';
import type { CdiConfig } from './objects.js';
import { filesystemOverhead, usableSpace } from './overhead.js';
import {
  asksForUpload,
  classNameOf,
  hasData,
  isHostpathClass,
  isUploadTarget,
  refusalOf,
} from './plain-claims.js';
import { choosePool, listUsablePools } from './pools.js';
import { sizeBytes } from './quantity.js';
import { readCdiConfig } from './storage-classes.js';

type Claim = V1PersistentVolumeClaim;
type Opened = Omit<UploadClaim, 'facts'>;

/** Activities of claims that wait for an upload. */
export function createUploadClaimActivities({
  kubernetes,
  executions,
}: {
  readonly kubernetes: Kubernetes;
  readonly executions: Pick<ExecutionObserver, 'stateOf'>;
}): UploadControlActivities {
  const openUploadClaim: UploadControlActivities['openUploadClaim'] = async ({ claim: ref, retry }) => {
    refuseOtherWorkflow(uploadClaimWorkflowId(ref), ref);
    if (retry !== undefined) await answerRetry(ref, retry);
    const claim = await findClaim(kubernetes, ref);
    const facts = factsOf(ref, claim);
    if (!claim || claim.metadata?.deletionTimestamp) return { facts, done: 'the claim is gone' };
    if (!isUploadTarget(claim)) return { facts, done: 'the claim waits for no upload, or has its disk' };
    refuseContent(claim, facts);
    const [writer] = await writersOf(podsOf(kubernetes), ref);
    if (writer !== undefined) return { facts, waiting: inUse(writer, ref) };
    const config = await readCdiConfig(kubernetes);
    const bound = claim.status?.phase === 'Bound';
    return { facts, ...(bound ? await inPlace(claim, config) : await anew(ref, claim, config)) };
  };

  /** First of all, so that one value is answered once, whatever becomes of the run. */
  async function answerRetry(ref: ClaimRef, retry: string): Promise<void> {
    const found = await findClaim(kubernetes, ref);
    if (!found || found.metadata?.annotations?.[MARKS.retried] === retry) return;
    // the same run, reset in Temporal's UI when it had its disk
    if (hasData(found)) return;
    const annotations = { [MARKS.retried]: retry, [CDI_ANNOTATIONS.podPhase]: 'Pending' };
    await changeClaimIfThere(kubernetes, ref, { metadata: { uid: ref.uid, annotations } });
  }

  /** A Bound claim brings its volume. */
  async function inPlace(claim: Claim, config: CdiConfig | undefined): Promise<Opened> {
    const found = await boundVolume(kubernetes, claim);
    if ('waiting' in found) return found;
    const block = found.volumeMode === 'Block';
    const overhead = block ? 0 : filesystemOverhead(config, found.storageClass);
    const bytes = found.capacityBytes;
    return {
      bound: found,
      target: {
        ...targetOf(claim, config),
        storageClass: found.storageClass,
        provisioner: '',
        staticVolume: true,
        overhead,
        requestBytes: bytes,
        usableBytes: block ? bytes : usableSpace(overhead, bytes),
      },
    };
  }

  /** A Pending claim gets a volume of its class, if dvflow provisions that. */
  async function anew(ref: ClaimRef, claim: Claim, config: CdiConfig | undefined): Promise<Opened> {
    const name = classNameOf(claim);
    const storageClass = name
      ? await callIfFound(`reading StorageClass ${name}`, kubernetes.storage.readStorageClass({ name }))
      : undefined;
    if (claim.spec?.volumeName || !storageClass || !isHostpathClass(storageClass))
      return { waiting: unbound(claim) };
    // it may have asked for an upload only when an empty volume was being made: two volumes of one claim would be in each other's way
    if ((await executions.stateOf(provisionWorkflowId(ref))) === 'running')
      return { waiting: unbound(claim) };
    const refused = refusalOf(claim, storageClass.provisioner);
    if (refused !== undefined) throw permanentFailure('IncompatiblePVC', refused);
    const { pools, refusals } = await listUsablePools(kubernetes);
    const pool = choosePool(storageClass, pools, refusals);
    const overhead = filesystemOverhead(config, name ?? '');
    const common = targetOf(claim, config);
    return {
      target: {
        ...common,
        storageClass: name ?? '',
        provisioner: storageClass.provisioner,
        reclaimPolicy: storageClass.reclaimPolicy === 'Retain' ? 'Retain' : 'Delete',
        bindingMode:
          storageClass.volumeBindingMode === 'WaitForFirstConsumer' ? 'WaitForFirstConsumer' : 'Immediate',
        waitForConsumer: waitsForConsumer(claim, storageClass, config),
        overhead,
        usableBytes: usableSpace(overhead, common.requestBytes),
        pool,
      },
    };
  }

  const recordUploadClaim: UploadControlActivities['recordUploadClaim'] = async (input) => {
    const { claim, podPhase, podReady, event, withdrawn = false } = input;
    // a workflow that was refused has nothing to say about what another one does
    if (isOtherWorkflow(uploadClaimWorkflowId(claim))) return;
    const found = await findClaim(kubernetes, claim);
    if (!found) return;
    if (withdrawn || !asksForUpload(found)) return await takeBack(found, claim);
    if (hasData(found) && podPhase !== undefined && podPhase !== 'Succeeded')
      return leaveDisk(claim, podPhase);
    const annotations = {
      ...(podPhase === undefined ? {} : { [CDI_ANNOTATIONS.podPhase]: podPhase }),
      ...(podReady === undefined ? {} : { [CDI_ANNOTATIONS.podReady]: String(podReady) }),
      // the gateway finds the run by it
      ...(podReady ? { [MARKS.workflowId]: uploadClaimWorkflowId(claim) } : {}),
      ...(podPhase === 'Succeeded' || podPhase === 'Failed' ? { [MARKS.workflowId]: null } : {}),
      // a backup would be refused with the answer; without it the question would be asked again by the next failure
      ...(podPhase === 'Succeeded' ? { [MARKS.retried]: null, [MARKS.retry]: null } : {}),
    };
    if (Object.keys(annotations).length > 0)
      await changeClaimIfThere(kubernetes, claim, { metadata: { uid: claim.uid, annotations } });
    const about = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...claim };
    if (event) await recordEvent(kubernetes, about, event);
  };

  /** A run that was reset in Temporal's UI after it had completed: its word of before stands, and it has nothing to wait for. */
  function leaveDisk({ namespace, name }: ClaimRef, podPhase: 'Pending' | 'Running' | 'Failed'): void {
    if (podPhase === 'Failed') return;
    throw permanentFailure(
      'ResourceExists',
      `claim ${namespace}/${name} has its disk already: nothing is received`,
    );
  }

  /** Whoever asks again later must not find an answer to the last question. */
  async function takeBack({ metadata }: Claim, claim: ClaimRef): Promise<void> {
    const said = [CDI_ANNOTATIONS.podPhase, CDI_ANNOTATIONS.podReady, MARKS.workflowId];
    const left = said.filter((name) => metadata?.annotations?.[name] !== undefined);
    if (left.length === 0 || metadata?.annotations?.[CDI_ANNOTATIONS.podPhase] === 'Succeeded') return;
    const annotations = Object.fromEntries(left.map((name) => [name, null]));
    await changeClaimIfThere(kubernetes, claim, { metadata: { uid: claim.uid, annotations } });
  }

  const confirmUploadTarget: UploadControlActivities['confirmUploadTarget'] = async (input) => {
    const { claim, directory } = input;
    const found = await readClaim(kubernetes, claim);
    const own = 'volume' in directory ? directory.volume : volumeName(claim.uid);
    refuseForeignVolume(found, own);
    refuseBoundEarly(found);
    if ('volume' in directory) await confirmReserved(kubernetes, claim, directory);
    return { asks: asksForUpload(found) };
  };

  return { openUploadClaim, confirmUploadTarget, recordUploadClaim };
}

/** Facts of a lifecycle, as far as a claim has them. @throws {@link FailureType} `InvalidDataVolume` for a deadline that is none */
function factsOf({ namespace, name, uid }: ClaimRef, claim: Claim | undefined): DataVolumeFacts {
  const annotations = claim?.metadata?.annotations ?? {};
  const deadlineMs = parseDeadline(annotations[MARKS.deadline]);
  if (deadlineMs === undefined)
    throw permanentFailure('InvalidDataVolume', invalidDeadline(annotations[MARKS.deadline]));
  const contentType = annotations[CDI_ANNOTATIONS.contentType] || 'kubevirt';
  if (contentType !== 'kubevirt' && contentType !== 'archive')
    throw permanentFailure(
      'ContentTypeNotSupported',
      `annotation ${CDI_ANNOTATIONS.contentType} is "${contentType}": write kubevirt or archive`,
    );
  const ready = annotations[CDI_ANNOTATIONS.podReady] === 'true';
  const phase: Phase = ready ? 'UploadReady' : '';
  return {
    namespace,
    name,
    uid,
    source: 'upload',
    displayUrl: '',
    contentType,
    phase,
    deadlineMs,
    ...(annotations[MARKS.uploadSpool] === 'true' ? { uploadSpool: true } : {}),
  };
}

/** What every plan takes from the claim. */
function targetOf({ metadata, spec }: Claim, config: CdiConfig | undefined): TargetPlan {
  const asked = metadata?.annotations?.[CDI_ANNOTATIONS.preallocation];
  return {
    claim: 'create',
    storageClass: '',
    provisioner: '',
    bindingMode: 'Immediate',
    reclaimPolicy: 'Retain',
    waitForConsumer: false,
    accessModes: spec?.accessModes ?? [],
    volumeMode: spec?.volumeMode === 'Block' ? 'Block' : 'Filesystem',
    requestBytes: sizeBytes(spec?.resources?.requests?.storage ?? '0', 'spec.resources.requests.storage'),
    usableBytes: 0,
    overhead: 0,
    api: 'pvc',
    pool: { path: '', useNamingPrefix: false },
    preallocation:
      asked === undefined
        ? (config?.spec?.preallocation ?? config?.status?.preallocation ?? false)
        : asked === 'true',
  };
}

function waitsForConsumer(
  { metadata }: Claim,
  { volumeBindingMode }: V1StorageClass,
  config: CdiConfig | undefined,
): boolean {
  const honoured = config?.spec?.featureGates?.includes('HonorWaitForFirstConsumer') ?? false;
  const immediate = metadata?.annotations?.[CDI_ANNOTATIONS.immediate] !== undefined;
  return volumeBindingMode === 'WaitForFirstConsumer' && honoured && !immediate;
}

function refuseContent({ spec }: Claim, { contentType }: DataVolumeFacts): void {
  if (contentType !== 'archive' || spec?.volumeMode !== 'Block') return;
  throw permanentFailure(
    'ContentTypeNotSupported',
    'contentType archive is unpacked into a file system, and volumeMode is Block: use volumeMode Filesystem',
  );
}

/** CDI's words. */
function inUse(pod: string, { name }: ClaimRef): NonNullable<UploadClaim['waiting']> {
  return {
    reason: 'UploadTargetInUse',
    message: `pod ${pod} using PersistentVolumeClaim ${name}`,
    counts: true,
  };
}

function unbound({ metadata, spec }: Claim): NonNullable<UploadClaim['waiting']> {
  const by = spec?.volumeName
    ? `volume ${spec.volumeName}`
    : `a volume of StorageClass "${spec?.storageClassName ?? ''}"`;
  return {
    reason: 'Pending',
    message: `claim ${metadata?.namespace}/${metadata?.name} is not Bound to ${by} yet`,
    counts: false,
  };
}
