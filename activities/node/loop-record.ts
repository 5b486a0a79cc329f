/** What a node worker remembers of each block volume that it made: enough to make the device again after a reboot. */
import { mkdir, readlink, rename, symlink, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { asyncLocalStorage } from '@temporalio/activity';
import { namesIn, readJson, removeFile, undefinedIfAbsent, writeJson } from './directories.js';
import { openState, type VolumeContext } from './volume-state.js';

/** A run of a workflow that made a volume, or found it made and unused and went on from there. */
export interface LoopMaker {
  /** `''` where an older worker wrote the record. */
  readonly workflowId: string;
  readonly runId: string;
}

/** One block volume. */
export interface LoopRecord {
  /** Of the PersistentVolume. */
  readonly name: string;
  readonly pool: string;
  /** Size of file and device. */
  readonly bytes: number;
  /** Who undoes it: only the last of them may remove it, since the others' PersistentVolume may name its device. */
  readonly makers: readonly LoopMaker[];
  /** ISO 8601; absent where an older worker wrote the record. */
  readonly createdAt?: string;
  /** File and device were made: what is in the file may be somebody's disk from now on. */
  readonly complete: boolean;
}

type Directories = Pick<VolumeContext, 'stateDirectory' | 'deviceDirectory'>;

/** The record of a volume, or `undefined` where there is none. */
export async function readLoopRecord(
  { stateDirectory }: Directories,
  name: string,
): Promise<LoopRecord | undefined> {
  await using block = await openState(stateDirectory, 'block');
  return await recordIn(block, `${name}.json`);
}

/** Every record, and the files that hold none: one of these must not keep the other volumes from their devices. */
export async function listLoopRecords({ stateDirectory }: Directories): Promise<{
  readonly records: readonly LoopRecord[];
  readonly unreadable: readonly { readonly name: string; readonly error: unknown }[];
}> {
  await using block = await openState(stateDirectory, 'block');
  const files = (await namesIn(block)).filter((file) => !file.startsWith('.') && file.endsWith('.json'));
  const records: LoopRecord[] = [];
  const unreadable: { name: string; error: unknown }[] = [];
  for (const file of files) {
    try {
      const record = await recordIn(block, file);
      if (record) records.push(record);
    } catch (error) {
      unreadable.push({ name: file, error });
    }
  }
  return { records, unreadable };
}

async function recordIn(block: FileHandle, file: string): Promise<LoopRecord | undefined> {
  const value = await readJson(block, file);
  if (value === undefined) return undefined;
  // an older worker wrote only the run
  const { runId, ...record } = value as Partial<LoopRecord> & { readonly runId?: string };
  const { name, pool, bytes, complete } = record;
  const { makers = runId === undefined ? [] : [{ workflowId: '', runId }] } = record;
  if (!name || !pool || typeof bytes !== 'number' || typeof complete !== 'boolean')
    throw new Error(`record ${file} of a block volume is not readable`);
  return { ...record, name, pool, bytes, complete, makers };
}

/** The run that acts, if one does. */
export function makerNow(): LoopMaker | undefined {
  const { workflowId, runId } = asyncLocalStorage.getStore()?.info.workflowExecution ?? {};
  return workflowId === undefined || runId === undefined ? undefined : { workflowId, runId };
}

/** Writes a record. */
export async function writeLoopRecord({ stateDirectory }: Directories, record: LoopRecord): Promise<void> {
  await using block = await openState(stateDirectory, 'block');
  await writeJson(block, `${record.name}.json`, record);
}

/** Removes a record; absent is success. */
export async function removeLoopRecord({ stateDirectory }: Directories, name: string): Promise<void> {
  await using block = await openState(stateDirectory, 'block');
  await removeFile(block, `${name}.json`);
  await block.sync();
}

/** Path of the link to a volume's device: what its PersistentVolume says. */
export function linkPath({ deviceDirectory }: Directories, name: string): string {
  return join(deviceDirectory, name);
}

/** Lets the link name this device, in one step. */
export async function linkDevice(directories: Directories, name: string, device: string): Promise<void> {
  const path = linkPath(directories, name);
  await mkdir(directories.deviceDirectory, { recursive: true, mode: 0o755 });
  if ((await readlink(path).catch(() => undefined)) === device) return;
  const temporary = join(directories.deviceDirectory, `.${name}.new`);
  await unlink(temporary).catch(undefinedIfAbsent);
  await symlink(device, temporary);
  await rename(temporary, path);
}

/** Removes the link; absent is success. */
export async function unlinkDevice(directories: Directories, name: string): Promise<void> {
  await unlink(linkPath(directories, name)).catch(undefinedIfAbsent);
}
