import { join } from 'node:path';
import type { StackInfo } from '../types.js';

/**
 * Where a path of a node lies on this machine. Every node sees a directory of its own under the path of the pool, which on
 * the machine itself is empty; other paths are the same everywhere.
 */
export function machinePath(
  { nodes, pool }: Pick<StackInfo, 'nodes' | 'pool'>,
  node: string,
  path: string,
): string {
  const own = nodes.find(({ name }) => name === node);
  if (own === undefined || (path !== pool && !path.startsWith(`${pool}/`))) return path;
  return join(own.pool, path.slice(pool.length));
}
