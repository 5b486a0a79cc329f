/** Gives a tree its label: without following a link, without leaving the file system, and bounded in what one call costs. */
import { lstatSync } from 'node:fs';
import { open, opendir, stat } from 'node:fs/promises';
import type { LabelProgress, LabelResult } from '../../types/preparation.js';
import { codeOf, undefinedIfAbsent } from '../directories.js';
import { childOf, itself, PLACE, type Place } from '../place.js';
import { containerLabel, isContainerLabel } from './selinux.js';
import type { LabelAccess } from './xattr.js';

/** Directories inside each other that are entered; a tenant can make any depth, and each one is an open descriptor. */
const MAX_DEPTH = 200;
/** Names that are read at once. */
const NAMES = 1000;
/** Entries between two beats. */
const BEAT_ENTRIES = 2000;

/** How a tree is labelled. */
export interface LabelTreeOptions {
  readonly labels: LabelAccess;
  /** What earlier calls did; they are gone on with after its cursor. */
  readonly after?: LabelProgress | undefined;
  /** A call ends after the entry of the root with which it has looked at so many. */
  readonly maxEntries: number;
  readonly signal: AbortSignal;
  beat(progress: LabelProgress): void;
}

interface Walk extends LabelTreeOptions {
  readonly device: bigint;
  examined: number;
  changed: number;
  tooDeep: number;
  cursor: string | undefined;
}

/**
 * Labels the root, then what is in it, entry by entry in the order of their bytes: what was done before a call ended is not looked
 * at again. What is made meanwhile inherits its directory's type by itself.
 * @throws {@link XattrError}
 */
export async function labelTree(root: Place, options: LabelTreeOptions): Promise<LabelResult> {
  const { examined = 0, changed = 0, tooDeep = 0, cursor } = options.after ?? {};
  const { dev: device } = await stat(itself(root), { bigint: true });
  const walk: Walk = { ...options, device, examined, changed, tooDeep, cursor };
  // `.` names the directory that is open, and is no link
  labelOne(walk, childOf(root, '.'));
  for (const name of await namesAfter(root, cursor)) {
    if (walk.examined - examined >= options.maxEntries) return { ...progressOf(walk), complete: false };
    await labelEntry(walk, root, name, 1);
    walk.cursor = name;
    walk.beat(progressOf(walk));
  }
  return { ...progressOf(walk), complete: true };
}

function progressOf({ examined, changed, tooDeep, cursor }: Walk): LabelProgress {
  return { examined, changed, tooDeep, ...(cursor === undefined ? {} : { cursor }) };
}

async function namesAfter(root: Place, cursor: string | undefined): Promise<readonly string[]> {
  const names: string[] = [];
  for await (const { name } of await opendir(itself(root), { encoding: 'latin1', bufferSize: NAMES })) {
    if (cursor === undefined || name > cursor) names.push(name);
  }
  // code units of latin1 are its bytes
  return names.sort((a, b) => (a < b ? -1 : 1));
}

/** One entry and everything below it; one that has gone meanwhile is done. */
async function labelEntry(walk: Walk, parent: Place, name: string, depth: number): Promise<void> {
  walk.signal.throwIfAborted();
  const path = childOf(parent, name);
  const found = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  // what is mounted here is not the pool's, nor is what lies below it
  if (!found || found.dev !== walk.device) return;
  try {
    labelOne(walk, path);
  } catch (error) {
    undefinedIfAbsent(error);
  }
  if (walk.examined % BEAT_ENTRIES === 0) walk.beat(progressOf(walk));
  if (found.isDirectory()) await labelBelow(walk, path, depth);
}

async function labelBelow(walk: Walk, path: Buffer, depth: number): Promise<void> {
  if (depth > MAX_DEPTH) {
    walk.tooDeep += 1;
    return;
  }
  await using directory = await open(path, PLACE).catch(undefinedIfNoDirectory);
  // between the two looks somebody may have mounted something
  if (!directory || (await stat(itself(directory), { bigint: true })).dev !== walk.device) return;
  for await (const { name } of await opendir(itself(directory), { encoding: 'latin1', bufferSize: NAMES })) {
    await labelEntry(walk, directory, name, depth + 1);
  }
}

function undefinedIfNoDirectory(error: unknown): undefined {
  if (!['ENOENT', 'ENOTDIR', 'ELOOP'].includes(String(codeOf(error)))) throw error;
  return undefined;
}

function labelOne(walk: Walk, path: Buffer): void {
  walk.examined += 1;
  const label = walk.labels.read(path);
  if (isContainerLabel(label)) return;
  walk.labels.write(path, containerLabel(label));
  walk.changed += 1;
}
