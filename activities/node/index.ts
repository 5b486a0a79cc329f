import type { NodeActivities } from '../interfaces.js';
import type { UnpublishedItem } from '../types.js';
import type { Owner } from './directories.js';
import { examinePool } from './examine.js';
import { withPoolLock } from './lock.js';
import { listMarkers, publishState, readMarker } from './marker.js';
import { findPool, measurePool, openPool } from './pool.js';
import { removeDirectory, removeUnpublishedDirectory, removeVolumeData } from './remove.js';
import { reserveDirectory } from './reserve.js';
import { verifyImage } from './verify.js';

/**
 * The short work of one node: room, directories, their reservation and removal.
 * `transferUser` owns disks and directories; without it they belong to the worker's own user.
 */
export function createNodeActivities(context: {
  readonly node: string;
  readonly transferUser?: Owner | undefined;
  /** Version of dvflow, for the report. @default 'unknown' */
  readonly version?: string | undefined;
}): NodeActivities {
  const { node } = context;
  const activities: NodeActivities = {
    async observePool({ pool: { path }, foreignBytes }) {
      await using pool = await openPool(path, node);
      return await measurePool(pool, node, foreignBytes);
    },
    reserveDirectory: async (input) => await reserveDirectory(input, context),
    verifyImage: async (input) => await verifyImage(input, context),
    async publishDirectory({ directory: { pool: path, directory, dataVolume } }) {
      await using pool = await openPool(path, node);
      await withPoolLock(pool, async () => {
        const marker = await readMarker(pool, dataVolume.uid);
        if (marker && marker.directory !== directory) return;
        await publishState(pool, dataVolume.uid);
      });
    },
    removeDirectory: async ({ directory }) => await removeDirectory(directory, node),
    async listUnpublishedDirectories({ pools }) {
      const lists: (readonly UnpublishedItem[])[] = [];
      for (const { path } of pools) {
        const found = await findPool(path, node);
        if (!found) continue;
        await using pool = found;
        lists.push(await listMarkers(pool, node));
      }
      return lists.flat();
    },
    removeUnpublishedDirectory: async ({ item }) => await removeUnpublishedDirectory(item, node),
    examineNode: async ({ pools }) => ({
      node,
      version: context.version ?? 'unknown',
      nodeVersion: process.versions.node,
      root: context.transferUser !== undefined,
      pools: await Promise.all(pools.map((pool) => examinePool(pool, node))),
    }),
    removeVolumeData: async ({ volume }) => await removeVolumeData(volume, node),
  };
  return activities;
}
