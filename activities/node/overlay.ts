import { statfs, type FileHandle } from 'node:fs/promises';

/** `OVERLAYFS_SUPER_MAGIC` of Linux: the file system of a container's own layer. */
export const OVERLAY = 0x794c7630;

/** Whether what is open lies in an overlay: what a worker writes there ends with its container, and the node never sees it. */
export async function isOverlay({ fd }: FileHandle): Promise<boolean> {
  return (await statfs(`/proc/self/fd/${fd}`)).type === OVERLAY;
}
