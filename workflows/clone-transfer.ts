/** The bytes of a clone: on their node, or over the data port of the source's. */
import { ActivityFailure, ApplicationFailure, CancellationScope, isCancellation } from '@temporalio/workflow';
import type { CloneInput, CloneOrigin, CloneStrategy, SourceContent } from '../activities/types/clone.js';
import type { FailureType, ImageFacts, TransferResult } from '../activities/types.js';
import { onNode, serving, transferring } from './activity-options.js';
import { confirmHeld, whileClaimIsThere } from './claim-watch.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { refOf } from './run-state.js';
import { bytesMoved, type Filling } from './transfer.js';

/** What is cloned into what, and how. */
export interface Cloning extends Omit<Filling, 'image'> {
  readonly origin: CloneOrigin;
  readonly content: SourceContent;
  readonly strategy: CloneStrategy;
  /** See `CloneInput`. */
  readonly generation: number;
}

/** What there is to know of the source as an image. */
export function factsOf({
  origin,
  content,
  strategy,
}: Pick<Cloning, 'origin' | 'content' | 'strategy'>): ImageFacts {
  const { namespace, name } = origin.claim;
  const archive = origin.contentType === 'archive';
  return {
    displayUrl: `${namespace}/${name}`,
    format: archive ? 'tar' : 'raw',
    containers: [],
    virtualSize: content.bytes,
    allocatedBytes: content.allocatedBytes,
    validators: { length: content.bytes },
    ranges: !archive,
    plan: archive ? 'unpack' : 'ranged',
    resume: archive ? 'restart' : 'exact',
    reason: strategy.reason,
  };
}

/** Moves the bytes. Over a data port the volume is served as long as that takes; a port that has moved is looked for again. */
export async function moveClone(volume: Lifecycle, cloning: Cloning): Promise<TransferResult> {
  const { strategy, origin } = cloning;
  volume.step(`cloning ${origin.claim.namespace}/${origin.claim.name}: ${strategy.reason}`);
  if (strategy.method !== 'network') return await move(volume, cloning);
  for (;;) {
    const transferred = await moveServed(volume, cloning);
    if (transferred) return transferred;
  }
}

/** `undefined` where the port has another address by now. */
async function moveServed(volume: Lifecycle, cloning: Cloning): Promise<TransferResult | undefined> {
  const { claim, origin, generation } = cloning;
  const { node } = origin.volume;
  const { uid } = refOf(volume.facts);
  const { url } = await volume.within(
    `node ${node} to say where its data port is`,
    () => onNode(node).locateVolume({ uid }),
    async () => 0,
    () => confirmHeld(claim),
  );
  const moving = new CancellationScope();
  const open = new CancellationScope();
  let moved = false;
  let refusal: Error | undefined;
  const served = open
    .run(() =>
      serving(node).serveVolume({
        uid,
        volume: origin.volume,
        contentType: origin.contentType,
        generation,
        url,
      }),
    )
    .catch((error: unknown) => {
      if (isCancellation(error)) return;
      moved = isMoved(error);
      if (!moved) refusal = error as Error;
      moving.cancel();
    });
  try {
    return await moving.run(() => move(volume, cloning, url));
  } catch (error) {
    if (refusal) throw refusal;
    if (!moved || !isCancellation(error)) throw error;
    return undefined;
  } finally {
    await CancellationScope.nonCancellable(async () => {
      open.cancel();
      await served;
    });
  }
}

/** The node's worker is another one than before, with another port. */
function isMoved(error: unknown): boolean {
  const cause = error instanceof ActivityFailure ? error.cause : undefined;
  return cause instanceof ApplicationFailure && cause.type === ('NodeUnavailable' satisfies FailureType);
}

async function move(volume: Lifecycle, cloning: Cloning, url?: string): Promise<TransferResult> {
  const { claim, target, directory, origin, strategy, generation } = cloning;
  const clone: CloneInput = {
    volume: origin.volume,
    method: strategy.method,
    generation,
    ...(url === undefined ? {} : { url }),
  };
  const run = (): Promise<TransferResult> =>
    transferring(directory.node).transferImage({
      target: directory,
      image: factsOf(cloning),
      contentType: volume.facts.contentType,
      usableBytes: target.usableBytes,
      claim,
      preallocation: target.preallocation,
      clone,
    });
  const { namespace, name } = origin.claim;
  return await volume.within(
    `clone of ${namespace}/${name}`,
    run,
    bytesMoved,
    whileClaimIsThere(claim, directory),
  );
}
