/** What a clone asks of the node of its source. */
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { asyncLocalStorage } from '@temporalio/activity';
import { reflinkBeginning } from '../image/clone/kernel.js';
import { blockDeviceSize } from '../image/block-device.js';
import type { CloneNodeActivities, CloneStrategy, SourceContent } from '../types/clone.js';
import type { DataPort } from '../types/data-port.js';
import type { FillTarget } from '../types.js';
import { O_TMPFILE, openPool, openVolumeDirectory } from './pool.js';
import type { PoolContext } from './pool-memory.js';
import { openSourceDisk, openSourceTree } from './source-volume.js';
import { createServeActivities } from '../image/clone/serve.js';
import { measureTree } from '../image/clone/tree.js';
import { openVolumeTree } from './volume-path.js';

/** A whole number of blocks of every file system that can share them. */
const TRIED_BYTES = 64 * 1024;

/** Activities of clones on one node. */
export function createCloneActivities({
  dataPort,
  ...context
}: PoolContext & { readonly dataPort?: DataPort | undefined }): CloneNodeActivities {
  const { node, memory } = context;
  return {
    ...createServeActivities(node, dataPort, memory),
    async measureOrigin({ volume, contentType }): Promise<SourceContent> {
      if (contentType === 'archive') {
        await using tree = await openSourceTree(volume, memory);
        return await measureTree(tree, asyncLocalStorage.getStore()?.cancellationSignal);
      }
      await using disk = await openSourceDisk(volume, memory);
      const { size, blocks } = await disk.stat();
      if (volume.volumeMode === 'Filesystem') return { bytes: size, allocatedBytes: blocks * 512 };
      const bytes = blockDeviceSize(disk.fd);
      return { bytes, allocatedBytes: bytes };
    },

    async chooseCloneMethod({ volume, target, contentType, preallocation }): Promise<CloneStrategy> {
      if (contentType === 'archive')
        return {
          method: 'network',
          reason: `file by file, through the data port of node ${node}: the content is an archive's`,
          fallback: 'ContentType: an archive is cloned file by file',
        };
      if (volume.volumeMode === 'Block' || isBlock(target))
        return copied(node, 'a block device shares no blocks with another volume', 'IncompatibleVolumeModes');
      if (preallocation) return copied(node, 'preallocation asks for blocks of its own');
      await using disk = await openSourceDisk(volume, memory);
      await using directory = await openDirectoryOf(target, context);
      const refused = await tryReflink(disk, directory);
      if (refused === undefined)
        return {
          method: 'reflink',
          reason: `reflink on node ${node}: the file system of both volumes shares blocks`,
        };
      return copied(node, whyNot(refused));
    },
  };
}

function copied(node: string, why: string, fallback = `NoReflink`): CloneStrategy {
  return {
    method: 'copy',
    reason: `sparse copy by extents on node ${node}: ${why}`,
    fallback: `${fallback}: ${why}`,
  };
}

function whyNot(code: string): string {
  if (code === 'EXDEV') return 'the volumes are on different file systems';
  if (code === 'EOPNOTSUPP' || code === 'EINVAL' || code === 'ENOTTY')
    return 'the file system cannot share blocks between files';
  return `the file system refuses to share blocks (${code})`;
}

function isBlock(target: FillTarget): boolean {
  return 'volume' in target && target.volumeMode === 'Block';
}

async function openDirectoryOf(target: FillTarget, context: PoolContext): Promise<FileHandle> {
  if ('volume' in target) return await openVolumeTree(target);
  await using pool = await openPool(target.pool, context);
  return await openVolumeDirectory(pool, target.directory);
}

/** Tried, since nothing else tells: the error of the file system, or `undefined`. */
async function tryReflink(disk: FileHandle, directory: FileHandle): Promise<string | undefined> {
  const { size } = await disk.stat();
  const length = Math.floor(size / TRIED_BYTES) * TRIED_BYTES ? TRIED_BYTES : 0;
  // less than a block is not worth it
  if (length === 0) return 'EOPNOTSUPP';
  const flags = constants.O_RDWR | O_TMPFILE;
  const file = await open(`/proc/self/fd/${directory.fd}`, flags, 0o600).catch(() => undefined);
  if (!file) return 'EOPNOTSUPP';
  await using tried = file;
  return reflinkBeginning(disk.fd, tried.fd, length);
}
