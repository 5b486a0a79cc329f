/** A static local volume in the life of an import: chosen and reserved, made ready on its node, given back if the import fails. */
import { ApplicationFailure, patched } from '@temporalio/workflow';
import type { FillTarget, ReservedVolume } from '../activities/types/local-volumes.js';
import type { ClaimRef, DataVolumeRef, FailureType, TargetPlan } from '../activities/types.js';
import { control, emptying, onNode } from './activity-options.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { refOf } from './run-state.js';

/** Mark of the histories in which a volume that is kept for the claim is not waited beside. */
const TAKES_KEPT = 'takes what is kept';

/** Reserves a volume that fits; while there is none it waits, and says why. `undefined` where the claim gets a new volume. */
export async function reserveStaticVolume(
  volume: Lifecycle,
  target: TargetPlan,
): Promise<ReservedVolume | undefined> {
  if (!target.staticVolume) return undefined;
  const dataVolume = refOf(volume.facts);
  volume.step('choosing a volume');
  // Registered before it is reserved: an attempt may reserve it and die before it can say so.
  volume.onFailure('give the volume back', () => giveBack(dataVolume));
  let message = '';
  const wait = { reason: 'FailedBinding', counts: true, message: () => message };
  const reserved = await volume.until(wait, async () => {
    const found = await control.reserveVolume({ dataVolume, target });
    if (!('waitFor' in found)) return found;
    message = found.waitFor;
    // a plan that is made now takes it as it is
    if (found.kept && patched(TAKES_KEPT)) await volume.leave(true);
    return undefined;
  });
  volume.note({ node: reserved.node });
  return reserved;
}

/** Proves on the volume's node that it can be filled. */
export async function prepareStaticVolume(
  volume: Lifecycle,
  { reserved, claim, target }: { reserved: ReservedVolume; claim: ClaimRef; target: TargetPlan },
): Promise<FillTarget> {
  const { node } = reserved;
  volume.step(`looking at PersistentVolume ${reserved.volume} on node ${node}`);
  const archive = volume.facts.contentType === 'archive';
  const requestBytes = target.usableBytes;
  const work = async (): Promise<FillTarget> => {
    await onNode(node).prepareVolume({ volume: reserved, claim, requestBytes, archive });
    return reserved;
  };
  return await volume.within(
    `node ${node} to look at PersistentVolume ${reserved.volume}`,
    work,
    async () => 0,
  );
}

/**
 * The claim first, since it names the volume and would get it as soon as it is free; then what was written is removed, then the
 * volume is what it was.
 */
async function giveBack(dataVolume: DataVolumeRef): Promise<void> {
  const { namespace, name } = dataVolume;
  await control.deleteClaim({ dataVolume, claim: { namespace, name, uid: '' } });
  await returnVolume(dataVolume);
}

/**
 * Empties and releases the volume that is reserved for a DataVolume, if there is one; with `reservedAt` only one of that time.
 * @throws {@link FailureType} `NodeUnavailable` where its node has been deleted: it stays reserved, and the sweeper comes back to it
 */
export async function returnVolume(
  dataVolume: DataVolumeRef,
  asking = control,
  reservedAt?: string,
): Promise<boolean> {
  const { volume, waiting } = await asking.withdrawVolume({
    dataVolume,
    ...(reservedAt ? { reservedAt } : {}),
  });
  if (waiting !== undefined) throw notNow(waiting);
  if (!volume) return false;
  await emptying(volume.node).emptyReservedVolume({ volume });
  await asking.releaseVolume({ volume });
  return true;
}

function notNow(message: string): ApplicationFailure {
  const type = 'NodeUnavailable' satisfies FailureType;
  return ApplicationFailure.create({ type, message, nonRetryable: true });
}
