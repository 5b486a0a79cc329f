/** What tells one state of all files of a volume from another. */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { itself, type Place } from '../../node/place.js';
import { fileState } from './state.js';
import { walkTree, type TreeEntry } from './tree.js';

/** Gathers the state of a tree while it is walked. */
export interface TreeState {
  add(entry: TreeEntry): void;
  /** Value for all that was added, in its order. */
  digest(): string;
}

/** Begins with the root; what is added to a directory, or removed from it, changes the directory. */
export async function beginTreeState(root: Place): Promise<TreeState> {
  const hash = createHash('sha256');
  hash.update(fileState(await stat(itself(root), { bigint: true })));
  return {
    add: ({ path, found }) => void hash.update(`\0${path}\0${found.mode}-${fileState(found)}`),
    digest: () => hash.digest('base64url'),
  };
}

/** State of a tree, found by a walk of its own; yields now and then, since that may take minutes. @throws as `walkTree` */
export async function* findTreeState(root: Place, signal: AbortSignal): AsyncGenerator<undefined, string> {
  const state = await beginTreeState(root);
  for await (const entry of walkTree(root, { count: 0 })) {
    signal.throwIfAborted();
    state.add(entry);
    yield;
  }
  return state.digest();
}
