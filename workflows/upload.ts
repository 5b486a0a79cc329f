/** Receives an upload: waits for clients, one after another, until one of them has sent a file that is the disk. */
import { ApplicationFailure, patched } from '@temporalio/workflow';
import type { ScratchSpace } from '../activities/types/scratch.js';
import type { CarriedUpload, Reception, UploadRequest } from '../activities/types/upload.js';
import type { ClaimRef, FailureType, TransferResult } from '../activities/types.js';
import { control, transferring } from './activity-options.js';
import { whileClaimIsThere } from './claim-watch.js';
import { bytesMoved } from './transfer.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { releaseScratch } from './scratch.js';
import type { Trouble, UploadDesk } from './upload-desk.js';
import { dismiss, makeScratch, type Need, type Uploading } from './upload-scratch.js';

/** Mark of the histories in which what was wrong with the last client is taken back when the next one is let in. */
const TAKES_BACK = 'takes back what was wrong';

/** A disk that a client has sent. */
export interface Uploaded {
  readonly transferred: TransferResult;
  /** Whose file it is. */
  readonly session: string;
  /** Removes the scratch space, where there was some. */
  readonly tidy: () => Promise<void>;
}

/** How far the upload is. */
type Progress = { -readonly [K in keyof CarriedUpload]: CarriedUpload[K] };

/**
 * Lets clients in until the disk is complete. Whatever is wrong with one of them or its file is told to it and on the DataVolume, and
 * the next one is waited for: before the first byte as long as it takes, after it until the deadline. `carried` is what the run has
 * handed on that this one continues.
 * @throws `DeadlineExceeded`, `ClaimLost`; `NodeUnavailable`, `NoSpace` where the node cannot receive at all
 */
export async function receiveDisk(
  volume: Lifecycle,
  uploading: Uploading,
  desk: UploadDesk,
  carried: CarriedUpload = { begun: false },
): Promise<Uploaded> {
  const { request: first, ...progress }: Progress = carried;
  const { scratch } = progress;
  if (scratch) volume.onFailure('remove scratch space', () => releaseScratch(volume, scratch));
  desk.open(uploading.directory, volume.facts.contentType, uploading.refuse);
  await volume.enter('UploadReady');
  for (let next = first; ;) {
    volume.handedOn.upload = progress;
    const request = next ?? (await nextClient(volume, uploading, { desk, progress }));
    // what is sent now may be well
    if (!next && progress.trouble && patched(TAKES_BACK)) await volume.enter('UploadReady');
    progress.begun = true;
    volume.handedOn.upload = { ...progress, request };
    const received = await receiveFrom(volume, uploading, { desk, progress, request });
    if (received === 'again') next = request;
    else if (received) return received;
    else next = undefined;
  }
}

/** One client and what is known so far, which changes with it. */
interface Turn {
  readonly desk: UploadDesk;
  readonly progress: Progress;
  readonly request: UploadRequest;
}

/** The disk, or `'again'` where the same client is still to be served. */
async function receiveFrom(
  volume: Lifecycle,
  uploading: Uploading,
  { desk, progress, request }: Turn,
): Promise<Uploaded | 'again' | undefined> {
  const spool = volume.facts.uploadSpool ?? false;
  const refused = await whyNotNow(volume, { ...uploading, request, progress, spool });
  if (refused) {
    progress.trouble = refused;
    return undefined;
  }
  const { scratch } = progress;
  const received = await serve(volume, { ...uploading, desk, request, scratch, spool });
  if (received === 'replaced') return undefined;
  if (received.outcome === 'complete') {
    const { result: transferred, session } = received;
    return { transferred, session, tidy: () => tidy(volume, scratch) };
  }
  if (received.outcome === 'scratch') {
    const made = await makeScratch(volume, { ...uploading, request, reason: received.reason });
    if ('type' in made) progress.trouble = made;
    else progress.scratch = made;
    return 'type' in made ? undefined : 'again';
  }
  const { type, message } = received;
  progress.trouble = { type, message };
  if (received.outcome === 'refused') desk.forget(request.session);
  return undefined;
}

/** Why this client is not received, which is told to it; makes the scratch space that its file is kept in first. */
async function whyNotNow(
  volume: Lifecycle,
  {
    progress,
    spool,
    ...need
  }: Omit<Need, 'reason'> & { readonly progress: Progress; readonly spool: boolean },
): Promise<Trouble | undefined> {
  const refused = await need.refuse?.();
  if (refused) {
    await dismiss(need, { ...refused, retryable: true });
    return refused;
  }
  if (!spool || progress.scratch) return undefined;
  const reason = 'annotation dvflow.io/upload-spool keeps the file as it comes';
  const made = await makeScratch(volume, { ...need, reason });
  if ('type' in made) return made;
  progress.scratch = made;
  return undefined;
}

async function tidy(volume: Lifecycle, scratch: ScratchSpace | undefined): Promise<void> {
  if (scratch) await releaseScratch(volume, scratch);
}

/**
 * The claim is looked at while nobody comes: one that is gone is waited for by nobody. A run whose history has grown long ends here:
 * whoever has been let in is served by the next one.
 */
async function nextClient(
  volume: Lifecycle,
  { claim, directory, asked = false }: Uploading,
  { desk, progress }: Omit<Turn, 'request'>,
): Promise<UploadRequest> {
  const { begun, trouble } = progress;
  volume.step(begun ? 'waiting for the client to send again' : 'waiting for an upload');
  const wait = {
    reason: trouble ? 'UploadFailed' : 'UploadReady',
    counts: begun,
    message: () => (trouble ? `upload failed, send again: ${trouble.message}` : 'waiting for an upload'),
  };
  return await volume.until(wait, async () => {
    if (desk.due) {
      await desk.handOver();
      const request = desk.take();
      volume.handedOn.upload = { ...progress, ...(request ? { request, begun: true } : {}) };
      return await volume.leave(request !== undefined || !begun);
    }
    const request = desk.take();
    if (request) return request;
    const { asks } = await control.confirmUploadTarget({ claim, directory });
    if (asked && !asks) throw askedNoMore(claim);
    // it may have come while the claim was looked at
    return desk.take();
  });
}

/** A run ended because its claim asks for no upload any more, as the run itself has seen; what an activity lost is behind its failure. */
export function isAskedNoMore(error: unknown): boolean {
  return error instanceof ApplicationFailure && error.type === ('ClaimLost' satisfies FailureType);
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
    bytesMoved,
    whileClaimIsThere(claim, directory),
  );
}
