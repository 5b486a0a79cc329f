/** Scratch space of a lifecycle: decided before anything is allocated, made on the node of the transfer, gone when it is over. */
import { ActivityFailure, ApplicationFailure, isCancellation, workflowInfo } from '@temporalio/workflow';
import type {
  ClaimRef,
  FailureType,
  ImageFacts,
  ReservedDirectory,
  TargetPlan,
} from '../activities/types.js';
import type { ScratchClaim, ScratchPlan, ScratchSpace } from '../activities/types/scratch.js';
import { claiming, cleaningUp, control, probing, reserving } from './activity-options.js';
import { deferCleanup } from './ending.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { confirmHeld } from './claim-watch.js';
import { whySilent } from './placement.js';
import { isExceededQuota } from './quota.js';
import { refOf } from './run-state.js';
import { isSilence } from './silent-node.js';

/** What scratch space is made for. */
export interface ScratchUse {
  /** The user's claim. */
  readonly claim: ClaimRef;
  /** The target, on whose node it has to be. */
  readonly directory: Pick<ReservedDirectory, 'node' | 'hostname'>;
  readonly plan: ScratchPlan;
}

/** The plan for an image that needs scratch space, where it does. @throws `ScratchSpaceRequired` */
export async function planScratch(
  volume: Lifecycle,
  { target, image }: { readonly target: TargetPlan; readonly image: ImageFacts },
  reason = image.scratch,
): Promise<ScratchPlan | undefined> {
  if (reason === undefined) return undefined;
  volume.step('choosing a StorageClass for scratch space');
  return await control.planScratch({ dataVolume: refOf(volume.facts), target, image, reason });
}

/** Why a transfer that had no scratch space could not do without. */
export function whyScratch(error: unknown): string | undefined {
  const cause = error instanceof ActivityFailure ? error.cause : undefined;
  const required =
    cause instanceof ApplicationFailure && cause.type === ('ScratchSpaceRequired' satisfies FailureType);
  return required ? cause.message : undefined;
}

/** What keeps scratch space from being there; `until` shows it, and the deadline counts. */
interface Obstacle {
  readonly reason: 'CreatingScratchSpace' | 'ErrExceededQuota' | 'InsufficientCapacity';
  readonly message: string;
}

/** Makes the claim and the directory of scratch space, and waits until they are there: for quota, for room, for the binding. */
export async function obtainScratch(volume: Lifecycle, use: ScratchUse): Promise<ScratchSpace> {
  volume.step(`creating scratch space on node ${use.directory.node}`);
  const creating = { reason: 'CreatingScratchSpace', message: 'Creating scratch space' } as const;
  const phase = volume.facts.source === 'upload' ? 'UploadScheduled' : 'ImportScheduled';
  await volume.enter(phase, { waiting: creating });
  undoClaim(volume);
  let obstacle: Obstacle = creating;
  const wait = {
    get reason() {
      return obstacle.reason;
    },
    counts: true,
    message: () => obstacle.message,
  };
  const undone = new Set<string>();
  const scratch = await volume.until(wait, async () => {
    const found = await look(volume, use, undone);
    if ('bytes' in found) return found;
    obstacle = found;
    await confirmHeld(use.claim);
    return undefined;
  });
  volume.note({ scratch: scratch.claim });
  return scratch;
}

/** Registered before the claim exists, since an attempt may make it and die before it can say so. */
function undoClaim(volume: Lifecycle): void {
  const dataVolume = refOf(volume.facts);
  volume.onFailure(`delete scratch claim prime-${dataVolume.uid}-scratch`, () =>
    control.deleteScratch({ dataVolume }),
  );
}

/** `undone` holds the directories whose removal is registered: one look after another may come to the same. */
async function look(
  volume: Lifecycle,
  use: ScratchUse,
  undone: Set<string>,
): Promise<ScratchSpace | Obstacle> {
  const made = await ensureClaim(volume, use);
  if ('reason' in made) return made;
  const wanted = directoryOf(use, made.claim);
  if (!undone.has(wanted.directory)) undoDirectory(volume, wanted);
  undone.add(wanted.directory);
  const directory = await reserve(use, made);
  if ('reason' in directory) return directory;
  const { plan } = use;
  const { claim } = made;
  const { unbound } = await control.bindScratch({ dataVolume: refOf(volume.facts), claim, plan, directory });
  if (unbound !== undefined) return { reason: 'CreatingScratchSpace', message: unbound };
  return { directory, claim, bytes: plan.promisedBytes };
}

async function ensureClaim(
  volume: Lifecycle,
  { claim, plan, directory: { node, hostname } }: ScratchUse,
): Promise<ScratchClaim | Obstacle> {
  try {
    const dataVolume = refOf(volume.facts);
    return await claiming.ensureScratchClaim({ dataVolume, claim, plan, node, hostname });
  } catch (error) {
    if (!isExceededQuota(error)) throw error;
    return { reason: 'ErrExceededQuota', message: error.cause?.message ?? error.message };
  }
}

/** A directory of the class's pool, on the one node where it is of use. */
async function reserve(
  { plan, directory: { node, hostname } }: ScratchUse,
  { claim, foreignBytes }: ScratchClaim,
): Promise<ReservedDirectory | Obstacle> {
  const { pool, promisedBytes: requestBytes } = plan;
  const { workflowId } = workflowInfo();
  const asked = { dataVolume: claim, claim, pool, hostname, requestBytes, foreignBytes, workflowId };
  try {
    // answers within seconds why a pool cannot be used, where the reservation would be tried again for minutes
    await probing(node).observePool({ pool, foreignBytes });
    const reserved = await reserving(node).reserveDirectory(asked);
    return reserved.refused ? shortage(plan, reserved.refused, reserved) : reserved;
  } catch (error) {
    if (isCancellation(error) || !isSilence(error)) throw error;
    const message = `scratch space of ${requestBytes} bytes on node ${node}: ${whySilent(node, error)}`;
    return { reason: 'InsufficientCapacity', message };
  }
}

/** Its books are kept under the scratch claim's own uid, beside the target's, which are under the DataVolume's. */
function directoryOf(
  { plan: { pool, promisedBytes }, directory: { node, hostname } }: ScratchUse,
  claim: ClaimRef,
): ReservedDirectory {
  const directory = pool.useNamingPrefix ? `${claim.name}-pvc-${claim.uid}` : `pvc-${claim.uid}`;
  return { node, hostname, pool: pool.path, directory, dataVolume: claim, promisedBytes };
}

/** Registered before it exists, for the same reason. */
function undoDirectory(volume: Lifecycle, directory: ReservedDirectory): void {
  volume.onFailure(`remove scratch directory ${directory.directory} on node ${directory.node}`, () =>
    cleaningUp(directory.node).removeDirectory({ directory }),
  );
}

function shortage(
  { storageClass, pool }: ScratchPlan,
  { roomBytes, requestBytes }: NonNullable<ReservedDirectory['refused']>,
  { node }: ReservedDirectory,
): Obstacle {
  return {
    reason: 'InsufficientCapacity',
    message:
      `scratch space of StorageClass "${storageClass}" asks for ${requestBytes} bytes, ` +
      `pool ${pool.path} has room for ${roomBytes} on node ${node}`,
  };
}

/** Removes scratch space that is not needed any more; a node that has gone is left to the sweeper. */
export async function releaseScratch(volume: Lifecycle, { directory }: ScratchSpace): Promise<void> {
  volume.step('removing scratch space');
  try {
    await cleaningUp(directory.node).removeDirectory({ directory });
    await control.deleteScratch({ dataVolume: refOf(volume.facts) });
  } catch (error) {
    if (isCancellation(error)) throw error;
    await deferCleanup(volume, `scratch directory ${directory.directory} on node ${directory.node} stays`);
  }
  volume.note({ scratch: undefined });
}
