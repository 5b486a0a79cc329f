import { rename, type FileHandle } from 'node:fs/promises';
import type { ResumeRecord } from '../image/resume-record.js';
import type { DataVolumeRef, UnpublishedItem } from '../types.js';
import {
  childPath,
  codeOf,
  ensureDirectory,
  findDirectory,
  namesIn,
  readJson,
  removeFile,
  writeJson,
  type Owner,
} from './directories.js';
import type { Pool } from './pool.js';
import { removeTree } from './remove-tree.js';
import { warn } from './warn.js';

/** File in `<pool>/.dvflow/<DataVolume uid>/`; as long as it is there, the directory is nobody's disk. */
const MARKER = 'unpublished.json';

/** What a directory carries from its birth until it is published: the label and the annotation of `design.md` §6 in one file. */
export interface Marker {
  readonly dataVolume: DataVolumeRef;
  readonly workflowId: string;
  /** Run that reserved the directory last; absent where no workflow did. */
  readonly runId?: string;
  /** Name of the directory under the pool. */
  readonly directory: string;
  /** ISO 8601. */
  readonly createdAt: string;
  /** Node that the directory was reserved on: others may share the pool. Absent in markers of earlier releases. */
  readonly node?: string;
}

/** The marker of a DataVolume, or `undefined` where there is none. */
export async function readMarker(pool: Pool, uid: string): Promise<Marker | undefined> {
  const handle = await findDirectory(pool.books, stateName(uid));
  if (!handle) return undefined;
  await using state = handle;
  return await markerIn(state);
}

/**
 * Name of the state that says of a directory that it is unpublished: the DataVolume's, or one that was set aside. `undefined` where
 * none does.
 */
export async function findStateOf(
  pool: Pool,
  { directory, uid }: { readonly directory: string; readonly uid: string },
): Promise<string | undefined> {
  for (const state of [uid, directory])
    if ((await readMarker(pool, state))?.directory === directory) return state;
  return undefined;
}

/** Frees the DataVolume's name for a second volume: the first keeps its marker and record under its directory's name. */
export async function setStateAside(pool: Pool, { dataVolume, directory }: Marker): Promise<void> {
  const [from, to] = [stateName(dataVolume.uid), stateName(directory)];
  await rename(childPath(pool.books, from), childPath(pool.books, to));
  await pool.books.sync();
}

/** The marker in an open private directory, or `undefined` where there is none. */
export async function markerIn(state: FileHandle): Promise<Marker | undefined> {
  return asMarker(await readJson(state, MARKER));
}

/** The resume record of a DataVolume as the transfer left it; its writer may have died half-way, so no field is sure. */
export async function readRecord(pool: Pool, uid: string): Promise<Partial<ResumeRecord> | undefined> {
  const handle = await findDirectory(pool.books, stateName(uid));
  if (!handle) return undefined;
  await using state = handle;
  return (await readJson(state, 'record.json')) as Partial<ResumeRecord> | undefined;
}

/** Removes the resume record of a state, for good. Absent is success. */
export async function forgetRecord(pool: Pool, state: string): Promise<void> {
  const handle = await findDirectory(pool.books, stateName(state));
  if (!handle) return;
  await using directory = handle;
  await removeFile(directory, 'record.json');
  await directory.sync();
}

/** Writes the marker, and makes the private directory that holds the resume record too. */
export async function writeMarker(pool: Pool, marker: Marker, owner: Owner | undefined): Promise<void> {
  await using state = await ensureDirectory(pool.books, stateName(marker.dataVolume.uid), {
    mode: 0o700,
    owner,
  });
  await writeJson(state, MARKER, marker);
  await pool.books.sync();
}

/** Declares the directory published: the marker goes first, then what else is kept about the transfer. */
export async function publishState(pool: Pool, uid: string): Promise<void> {
  const handle = await findDirectory(pool.books, stateName(uid));
  if (!handle) return;
  {
    await using state = handle;
    await removeFile(state, MARKER);
    await state.sync();
  }
  await removeTree(pool.books, stateName(uid));
}

/**
 * Forgets a transfer whose directory and promise are gone. The marker is unlinked last, in a step of its own: until then the
 * sweeper finds a removal that died half-way.
 */
export async function removeState(pool: Pool, uid: string): Promise<void> {
  const handle = await findDirectory(pool.books, stateName(uid));
  if (!handle) return;
  {
    await using state = handle;
    for (const name of await othersIn(state)) await removeTree(state, name);
    // A power cut must not undo the removals above and keep the one below.
    await state.sync();
    await removeFile(state, MARKER);
    await state.sync();
  }
  await removeTree(pool.books, stateName(uid));
}

async function othersIn(state: FileHandle): Promise<readonly string[]> {
  return (await namesIn(state)).filter((name) => name !== MARKER);
}

/** Whether what the marker says is this node's business. Of a shared pool each node sees the markers of all others. */
export function isOfNode({ node: by }: Marker, node: string): boolean {
  return by === undefined || by === node;
}

/**
 * Every directory of the pool that carries a marker of this node; one that cannot be read is said in the log, and keeps none of the
 * others.
 */
export async function listMarkers(pool: Pool, node: string): Promise<readonly UnpublishedItem[]> {
  const items: UnpublishedItem[] = [];
  for (const uid of (await namesIn(pool.books)).filter(isStateName)) {
    const marker = await readMarker(pool, uid).catch((error: unknown) => {
      // `lock` and other plain files lie beside the directories of transfers
      if (codeOf(error) !== 'ENOTDIR') warn('marker cannot be read', { pool: pool.path, marker: uid, error });
      return undefined;
    });
    if (!marker || !isOfNode(marker, node)) continue;
    const { dataVolume, workflowId, createdAt, directory } = marker;
    items.push({
      kind: 'Directory',
      where: node,
      name: directory,
      pool: pool.path,
      dataVolume,
      workflowId,
      createdAt,
    });
  }
  return items;
}

function isStateName(name: string): boolean {
  return name !== 'promises' && name !== 'lock' && !name.startsWith('.');
}

/** @throws Error for a uid that would name one of the pool's own files */
function stateName(uid: string): string {
  if (!isStateName(uid)) throw new Error(`'${uid}' is not the uid of a DataVolume`);
  return uid;
}

function asMarker(value: unknown): Marker | undefined {
  if (value === undefined) return undefined;
  const { dataVolume, workflowId, runId, directory, createdAt, node } = (value ?? {}) as Partial<Marker>;
  if (!dataVolume?.uid || !directory || workflowId === undefined || !createdAt) {
    throw new Error(`marker is not readable: ${JSON.stringify(value)}`);
  }
  const optional = { ...(runId === undefined ? {} : { runId }), ...(node === undefined ? {} : { node }) };
  return { dataVolume, workflowId, directory, createdAt, ...optional };
}
