import type { BlankResult } from '../activities/types/blank.js';
import type {
  ClaimRef,
  FillTarget,
  LifecycleInput,
  TargetPlan,
  TransferResult,
} from '../activities/types.js';
import { creating, transferring } from './activity-options.js';
import { adopt, awaitConsumer, begin, ensureClaim, planTarget } from './claim.js';
import { runLifecycle } from './lifecycle.js';
import { whileClaimIsThere } from './claim-watch.js';
import { bytesMoved } from './transfer.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { reserveOnSomeNode } from './placement.js';
import { publish, verify } from './publication.js';
import { prepareStaticVolume, reserveStaticVolume } from './static-volume.js';
import { together } from './together.js';

/**
 * Makes an empty disk of the claim's usable size, sparse or preallocated, and offers it to the claim when it is complete. Phases:
 * CDI's import phases, as CDI's own for a blank disk.
 * @throws every {@link FailureType} of the request, of the target and of time, as the `type` of an `ApplicationFailure`
 */
export async function blankDataVolume(input: LifecycleInput): Promise<BlankResult | undefined> {
  return await runLifecycle(input, async (volume) => {
    const target = await together(begin(volume), planTarget(volume));
    if (target.claim === 'adopt') return await adopt(volume, target);
    const reserved = await reserveStaticVolume(volume, target);
    const claim = await ensureClaim(volume, target, { reserved });
    await awaitConsumer(volume, claim, target);
    const scheduled = volume.enter('ImportScheduled');
    const directory = await together(
      scheduled,
      reserved
        ? prepareStaticVolume(volume, { reserved, claim, target })
        : reserveOnSomeNode(volume, { claim, target }),
    );
    volume.note({ node: directory.node });
    const begun = volume.enter('ImportInProgress');
    const transferred = await together(begun, createDisk(volume, { claim, target, directory }));
    await verify(volume, { directory, transferred });
    const published = await publish(volume, { claim, target, directory, transferred });
    return {
      claim: { namespace: claim.namespace, name: claim.name },
      node: directory.node,
      ...published,
      virtualSize: transferred.virtualSize,
      preallocated: target.preallocation,
    };
  });
}

interface Blank {
  readonly claim: ClaimRef;
  readonly target: TargetPlan;
  readonly directory: FillTarget;
}

/** A sparse disk waits for no slot; taking the room of a whole disk is work for the node's disks, like a transfer. */
async function createDisk(volume: Lifecycle, { claim, target, directory }: Blank): Promise<TransferResult> {
  const { preallocation, usableBytes } = target;
  const { node } = directory;
  volume.step(`creating a ${preallocation ? 'preallocated' : 'sparse'} disk on node ${node}`);
  const input = { target: directory, claim, usableBytes, preallocation };
  const work = (): Promise<TransferResult> =>
    preallocation ? transferring(node).createBlankDisk(input) : creating(node).createBlankDisk(input);
  return await volume.within(
    `a blank disk on node ${node}`,
    work,
    bytesMoved,
    whileClaimIsThere(claim, directory),
  );
}
