import type { NodeActivities } from '../interfaces.js';
import { pageOf } from '../item-pages.js';
import type { DataPort } from '../types/data-port.js';
import type { UploadNodeActivities } from '../types/upload.js';
import { createBlankActivities } from '../image/blank-disk.js';
import { createCloneActivities } from './clone.js';
import { createLoopVolume } from './create-loop-volume.js';
import type { Owner } from './directories.js';
import { emptyReservedVolume } from './empty-volume.js';
import { examinePool } from './examine.js';
import { listUnpublished } from './list-unpublished.js';
import { withPoolLock } from './lock.js';
import { removeLoopLeak } from './loop-leaks.js';
import { removeLoopVolume } from './loop-volumes.js';
import { findStateOf, publishState, readMarker } from './marker.js';
import { openPool } from './pool.js';
import { memoryIn } from './pool-memory.js';
import { prepareVolume } from './prepare-volume.js';
import { observePool } from './room.js';
import { createPreparationActivities } from './preparation/index.js';
import { removeDirectory, removeUnpublishedDirectory, removeVolumeData } from './remove.js';
import { reserveDirectory } from './reserve.js';
import { removeTransferLeak } from './transfer-leaks.js';
import { verifyFilled } from './verify-filled.js';
import { DEVICE_DIRECTORY, removeTransferState, STATE_DIRECTORY } from './volume-state.js';

/**
 * The short work of one node: room, directories, their reservation and removal.
 * `transferUser` owns disks and directories; without it they belong to the worker's own user.
 */
export function createNodeActivities(context: {
  readonly node: string;
  readonly transferUser?: Owner | undefined;
  /** Version of dvflow, for the report. @default 'unknown' */
  readonly version?: string | undefined;
  /** Pools are remembered in it only where it is given. @default '/var/lib/dvflow' */
  readonly stateDirectory?: string | undefined;
  /** @default '/dev/dvflow' */
  readonly deviceDirectory?: string | undefined;
  /** Serves volumes to clones on other nodes. */
  readonly dataPort?: DataPort | undefined;
  /** Where the kernel shows SELinux. @default '/sys/fs/selinux' */
  readonly selinuxfs?: string | undefined;
}): Omit<NodeActivities, keyof UploadNodeActivities> {
  const { node, stateDirectory = STATE_DIRECTORY, deviceDirectory = DEVICE_DIRECTORY } = context;
  const memory = context.stateDirectory === undefined ? undefined : memoryIn(stateDirectory);
  const volumes = { ...context, stateDirectory, deviceDirectory, memory };
  const activities: ReturnType<typeof createNodeActivities> = {
    ...createPreparationActivities(volumes),
    ...createCloneActivities(volumes),
    ...createBlankActivities({ ...context, stateDirectory }),
    observePool: async ({ pool, ...asked }) => await observePool(pool, { ...asked, ...volumes }),
    reserveDirectory: async (input) => await reserveDirectory(input, volumes),
    verifyImage: async (input) => await verifyFilled(input, volumes),
    async publishDirectory({ directory: target }) {
      if ('volume' in target) return await removeTransferState(stateDirectory, target.dataVolume.uid);
      const { pool: path, directory, dataVolume } = target;
      await using pool = await openPool(path, volumes);
      await withPoolLock(pool, async () => {
        // of a volume that was set aside too; without any marker the rest of a publication that died may be left
        const { uid } = dataVolume;
        const state = await findStateOf(pool, { directory, uid });
        const other = (await readMarker(pool, uid)) !== undefined;
        await publishState(pool, state ?? (other ? directory : uid));
      });
    },
    removeDirectory: async ({ directory }) => await removeDirectory(directory, volumes),
    listUnpublishedDirectories: async ({ pools, ...page }) =>
      pageOf(await listUnpublished(pools, volumes), page),
    async removeUnpublishedDirectory({ item }) {
      if (item.kind === 'BlockVolume') await removeLoopLeak(item, volumes);
      else if (item.kind === 'TransferState') await removeTransferLeak(item, volumes);
      else await removeUnpublishedDirectory(item, volumes);
    },
    examineNode: async ({ pools }) => ({
      node,
      version: context.version ?? 'unknown',
      nodeVersion: process.versions.node,
      root: context.transferUser !== undefined,
      pools: await Promise.all(pools.map((pool) => examinePool(pool, volumes))),
    }),
    prepareVolume: async (input) => await prepareVolume(input, volumes),
    emptyReservedVolume: async (input) => await emptyReservedVolume(input, volumes),
    createLoopVolume: async ({ plan }) => await createLoopVolume(plan, volumes),
    removeLoopVolume: async (input) => await removeLoopVolume(input, volumes),
    removeVolumeData: async ({ volume }) => await removeVolumeData(volume, volumes),
  };
  return activities;
}
