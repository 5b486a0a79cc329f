import { stat, statfs, type FileHandle } from 'node:fs/promises';

/** `OVERLAYFS_SUPER_MAGIC` of Linux: the file system of a container's own layer, and of a node that is a container itself. */
export const OVERLAY = 0x794c7630;

/** Whether what is open lies in an overlay, as all of a container's own layer does. */
export async function isOverlay({ fd }: FileHandle): Promise<boolean> {
  return (await statfs(`/proc/self/fd/${fd}`)).type === OVERLAY;
}

/**
 * Whether an open directory lies in this worker's own layer: what is written there ends with its container, and the node never sees it.
 * What is mounted from a node that is a container itself (kind, k3d, minikube) lies in another overlay. `root` is the worker's.
 */
export async function isOwnLayer(directory: FileHandle, root = '/'): Promise<boolean> {
  if (!(await isOverlay(directory))) return false;
  const [found, own] = await Promise.all([directory.stat(), stat(root)]);
  return found.dev === own.dev;
}
