/** Scratch space for an upload, made while its client waits; and how a client is told that it is not received. */
import { ActivityFailure, ApplicationFailure, isCancellation, log } from '@temporalio/workflow';
import type { ScratchPlan, ScratchSpace } from '../activities/types/scratch.js';
import type { UploadRequest } from '../activities/types/upload.js';
import type { ClaimRef, FailureType, FillTarget, ImageFacts, TargetPlan } from '../activities/types.js';
import { cleaningUp } from './activity-options.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { obtainScratch, planScratch } from './scratch.js';
import type { Trouble } from './upload-desk.js';

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

/** What scratch space is made for. */
export interface Need extends Uploading {
  readonly request: UploadRequest;
  readonly reason: string;
}

/** Makes scratch space while the client waits; where no class can serve any, the client is told, and the next may send another file. */
export async function makeScratch(volume: Lifecycle, need: Need): Promise<ScratchSpace | Trouble> {
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
    await dismiss(need, plan);
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

/** Tells a client that has been let in why it is not received; one whose node is silent hears it from the broken connection. */
export async function dismiss(
  { directory, request: { session } }: Pick<Need, 'directory' | 'request'>,
  why: Trouble & { readonly retryable?: boolean },
): Promise<void> {
  try {
    await cleaningUp(directory.node).dismissUpload({ target: directory, session, ...why });
  } catch (error) {
    if (isCancellation(error)) throw error;
    log.warn('a client was not told why it is not received', { node: directory.node, error });
  }
}
