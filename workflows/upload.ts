/** Receives an upload: waits for clients, one after another, until one of them has sent a file that is the disk. */
import { ActivityFailure, ApplicationFailure, workflowInfo } from '@temporalio/workflow';
import type { ScratchPlan, ScratchSpace } from '../activities/types/scratch.js';
import type { Reception, UploadRequest } from '../activities/types/upload.js';
import type {
  ClaimRef,
  FailureType,
  FillTarget,
  ImageFacts,
  TargetPlan,
  TransferResult,
} from '../activities/types.js';
import { cleaningUp, control, onNode, transferring } from './activity-options.js';
import type { Lifecycle } from './lifecycle.js';
import { obtainScratch, planScratch, releaseScratch } from './scratch.js';
import type { UploadDesk } from './upload-desk.js';

/** What is uploaded into. */
export interface Uploading {
  readonly claim: ClaimRef;
  readonly target: TargetPlan;
  readonly directory: FillTarget;
  /** The upload is only as long awaited as the claim says so by its annotation. @default false */
  readonly asked?: boolean;
  /** Asked before each client: why nothing may be written now. */
  readonly refuse?: () => Promise<Trouble | undefined>;
}

/** A disk that a client has sent. */
export interface Uploaded {
  readonly transferred: TransferResult;
  /** Whose file it is. */
  readonly session: string;
  /** Removes the scratch space, where there was some. */
  readonly tidy: () => Promise<void>;
}

/** Why the last client did not succeed. */
export type Trouble = Pick<Extract<Reception, { type: string }>, 'type' | 'message'>;

/**
 * Lets clients in until the disk is complete. Whatever is wrong with one of them or its file is told to it and on the DataVolume, and
 * the next one is waited for: before the first byte as long as it takes, after it until the deadline.
 * @throws `DeadlineExceeded`, `ClaimLost`; `NodeUnavailable`, `NoSpace` where the node cannot receive at all
 */
export async function receiveDisk(
  volume: Lifecycle,
  uploading: Uploading,
  desk: UploadDesk,
): Promise<Uploaded> {
  let scratch: ScratchSpace | undefined;
  let trouble: Trouble | undefined;
  let begun = false;
  desk.open(uploading.directory, volume.facts.contentType);
  await volume.enter('UploadReady');
  for (let again: UploadRequest | undefined; ;) {
    const request = again ?? (await nextClient(volume, uploading, { desk, begun, trouble }));
    begun = true;
    again = undefined;
    const refused = await uploading.refuse?.();
    if (refused) {
      trouble = refused;
      continue;
    }
    const spool = volume.facts.uploadSpool ?? false;
    const reason = 'annotation dvflow.io/upload-spool keeps the file as it comes';
    const needed = spool && !scratch ? await makeScratch(volume, { ...uploading, request, reason }) : scratch;
    if (needed && 'type' in needed) trouble = needed;
    else {
      scratch = needed;
      const received = await serve(volume, { ...uploading, desk, request, scratch, spool });
      if (received === 'replaced') continue;
      if (received.outcome === 'complete')
        return {
          transferred: received.result,
          session: received.session,
          tidy: () => tidy(volume, scratch),
        };
      if (received.outcome !== 'scratch') trouble = received;
      else {
        const made = await makeScratch(volume, { ...uploading, request, reason: received.reason });
        if ('type' in made) trouble = made;
        else [scratch, again] = [made, request];
      }
    }
  }
}

async function tidy(volume: Lifecycle, scratch: ScratchSpace | undefined): Promise<void> {
  if (scratch) await releaseScratch(volume, scratch);
}

/** What the wait for a client is told by. */
interface Waiting {
  readonly desk: UploadDesk;
  readonly begun: boolean;
  readonly trouble: Trouble | undefined;
}

/** The claim is looked at while nobody comes: one that is gone is waited for by nobody. */
async function nextClient(
  volume: Lifecycle,
  { claim, directory, asked = false }: Uploading,
  { desk, begun, trouble }: Waiting,
): Promise<UploadRequest> {
  volume.step(begun ? 'waiting for the client to send again' : 'waiting for an upload');
  const wait = {
    reason: trouble ? 'UploadFailed' : 'UploadReady',
    counts: begun,
    message: () => (trouble ? `upload failed, send again: ${trouble.message}` : 'waiting for an upload'),
  };
  return await volume.until(wait, async () => {
    const request = desk.take();
    if (request) return request;
    const { asks } = await control.confirmUploadTarget({ claim, directory });
    if (asked && !asks) throw askedNoMore(claim);
    // it may have come while the claim was looked at
    return desk.take();
  });
}

function askedNoMore({ namespace, name }: ClaimRef): ApplicationFailure {
  return ApplicationFailure.create({
    type: 'ClaimLost' satisfies FailureType,
    message: `claim ${namespace}/${name} asks for no upload any more`,
    nonRetryable: true,
  });
}

/** One client, and what it is received with. */
interface Serving extends Uploading {
  readonly desk: UploadDesk;
  readonly request: UploadRequest;
  readonly scratch: ScratchSpace | undefined;
  readonly spool: boolean;
}

async function serve(volume: Lifecycle, serving: Serving): Promise<Reception | 'replaced'> {
  const { claim, target, directory, desk, request, scratch, spool } = serving;
  volume.step(`receiving an upload on node ${directory.node}`);
  const { workflowId } = workflowInfo();
  const work = (): Promise<Reception> =>
    transferring(directory.node).receiveUpload({
      target: directory,
      request,
      usableBytes: target.usableBytes,
      claim,
      preallocation: target.preallocation,
      ...(scratch ? { scratch } : {}),
      ...(spool ? { spool } : {}),
    });
  return await volume.within(
    'upload',
    () => desk.serve(request, work),
    async () => (await control.observeTransfer({ workflowId })).bytes,
  );
}

/** What scratch space is made for. */
interface Need extends Uploading {
  readonly request: UploadRequest;
  readonly reason: string;
}

/** Makes scratch space while the client waits; where no class can serve any, the client is told, and the next may send another file. */
async function makeScratch(volume: Lifecycle, need: Need): Promise<ScratchSpace | Trouble> {
  const { claim, directory } = need;
  volume.onFailure('let the waiting client go', () =>
    cleaningUp(directory.node).dismissUpload({
      target: directory,
      type: 'NodeUnavailable' satisfies FailureType,
      message: 'the upload was ended',
    }),
  );
  const plan = await planFor(volume, need);
  if ('type' in plan) {
    await onNode(directory.node).dismissUpload({ target: directory, ...plan });
    return plan;
  }
  const scratch = await obtainScratch(volume, { claim, directory, plan });
  await volume.enter('UploadReady');
  return scratch;
}

async function planFor(
  volume: Lifecycle,
  { target, request: { length }, reason }: Need,
): Promise<ScratchPlan | Trouble> {
  const image: ImageFacts = {
    displayUrl: 'upload',
    format: 'raw',
    containers: [],
    validators: length === undefined ? {} : { length },
    ranges: false,
    plan: 'one-pass',
    resume: 'reread',
    reason,
  };
  try {
    const plan = await planScratch(volume, { target, image }, reason);
    if (plan) return plan;
  } catch (error) {
    const cause = error instanceof ActivityFailure ? error.cause : undefined;
    const type: FailureType = 'ScratchSpaceRequired';
    if (!(cause instanceof ApplicationFailure) || cause.type !== type) throw error;
    return { type, message: cause.message };
  }
  throw ApplicationFailure.create({ message: 'scratch space without a reason', nonRetryable: true });
}
