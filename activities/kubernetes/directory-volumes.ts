/** Which volume a directory of a pool belongs to, for who would remove it. */
import { basename } from 'node:path';
import type { V1Node, V1PersistentVolume } from '@kubernetes/client-node';
import type { UnpublishedItem } from '../types.js';
import { plainPath } from '../without-end.js';
import { listAll, type Kubernetes } from './client.js';
import { PROVISION_ON_NODE } from './names.js';
import { nodesOf } from './node-affinity.js';

/** Whether the volume says that it is made of this directory: of that path, on that node. Beyond doubt, unlike {@link mayBeOfVolume}. */
export function isMadeOf(volume: V1PersistentVolume, { pool, name, where }: UnpublishedItem): boolean {
  const path = volume.spec?.hostPath?.path;
  return (
    nodeOf(volume) === where && path !== undefined && plainPath(path) === `${plainPath(pool ?? '')}/${name}`
  );
}

/**
 * Whether a volume may be made of this directory. The directory's name tells it from all others: it bears its claim's uid. Its path may
 * be another one today (a link, a pool under a new path), and so may its node's name; only a node that is there, and is another one,
 * has a directory of its own. Enough to keep the directory, not to call it published: that cannot be undone. @throws as `listAll`
 */
export async function mayBeOfVolume(
  { core }: Kubernetes,
  { name, where }: UnpublishedItem,
  volumes: readonly V1PersistentVolume[],
): Promise<boolean> {
  const named = volumes.filter(({ spec }) => directoryOf(spec) === name);
  if (named.length === 0) return false;
  if (named.some((volume) => nodeOf(volume) === where)) return true;
  const nodes = await listAll('listing nodes', (page) => core.listNode(page));
  return named.some((volume) => !isElsewhere(volume, where, nodes));
}

/** Name of the directory that a volume is made of, whoever made the volume and by whichever path. */
function directoryOf(spec: V1PersistentVolume['spec']): string | undefined {
  const path = spec?.hostPath?.path ?? spec?.local?.path;
  return path === undefined ? undefined : basename(path);
}

/** Name of the node that a volume was made on, where it says so. */
function nodeOf({ metadata }: V1PersistentVolume): string | undefined {
  return metadata?.annotations?.[PROVISION_ON_NODE];
}

/** The volume lies on nodes that are there, and `where` is none of them. */
function isElsewhere(volume: V1PersistentVolume, where: string, nodes: readonly V1Node[]): boolean {
  const named = nodeOf(volume);
  if (named === undefined && !volume.spec?.nodeAffinity?.required) return false;
  const on =
    named === undefined ? nodesOf(volume, nodes) : nodes.filter(({ metadata }) => metadata?.name === named);
  return on.length > 0 && on.every(({ metadata }) => metadata?.name !== where);
}
