/**
 * Which pools a node knows: those in which it has made volumes. It is kept outside of the pools, so that a pool whose file system is not
 * mounted (yet) is told from an empty one, and another file system in its place from the pool's own.
 */
import { createHash, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, readlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { awayFailure } from '../failures.js';
import { plainPath } from '../without-end.js';
import { namesIn, readJson, undefinedIfAbsent, writeJson } from './directories.js';
import { STATE_DIRECTORY } from './volume-state.js';
import { warn } from './warn.js';

/** File in a pool's `.dvflow` that tells these books from all others; a copy of the pool keeps it. */
const IDENTITY = '.identity.json';

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;

/** Where a pool is, and where the node remembers it. */
export interface PoolContext {
  readonly node: string;
  /** Where the kernel shows SELinux. @default '/sys/fs/selinux' */
  readonly selinuxfs?: string | undefined;
  /** Directory of {@link memoryIn}; absent: no pool is remembered, and each one without books counts as new. */
  readonly memory?: string | undefined;
}

/** A pool that had books. */
export interface KnownPool {
  readonly path: string;
  /** What its books bear. */
  readonly id: string;
  /** The path without links, when it was remembered: only that tells the mount that it lies in. */
  readonly real?: string | undefined;
  /** How many times its room it promises; absent where nobody has said. */
  readonly overcommit?: number | undefined;
}

/** What is remembered of a pool besides its identity. */
export type PoolTraits = Pick<KnownPool, 'real' | 'overcommit'>;

/** Where a node worker with this state directory remembers pools. */
export function memoryIn(stateDirectory: string = STATE_DIRECTORY): string {
  return join(stateDirectory, 'pools');
}

/** What is remembered of a pool; `undefined` of one that never had a volume. */
export async function recallPool(memory: string | undefined, path: string): Promise<KnownPool | undefined> {
  const found = await findMemory(memory);
  if (!found) return undefined;
  await using directory = found;
  return asKnown(await readJson(directory, fileOf(path)));
}

/** Every pool that is remembered; what cannot be read is left out. */
export async function knownPools(memory: string | undefined): Promise<readonly KnownPool[]> {
  const found = await findMemory(memory);
  if (!found) return [];
  await using directory = found;
  const names = (await namesIn(directory)).filter((name) => !name.startsWith('.'));
  const read = names.map((name) => readJson(directory, name).then(asKnown, () => undefined));
  return (await Promise.all(read)).filter((pool) => pool !== undefined);
}

/**
 * Remembers a pool by its open books, for who holds its lock; an `overcommit` that nobody names stays what it was. A worker that may
 * not write there goes on without: that is said in its log, and the answer is `false`.
 * @throws {@link FailureType} as {@link refuseOther}
 */
export async function rememberPool(
  { path, root, books }: { readonly path: string; readonly root: FileHandle; readonly books: FileHandle },
  { node, memory }: PoolContext,
  overcommit?: number,
): Promise<boolean> {
  if (memory === undefined) return true;
  const known = await recallPool(memory, path);
  if (known) await refuseOther(books, { known, node, memory });
  try {
    const traits = { real: await realPathOf(root), overcommit: overcommit ?? known?.overcommit };
    if (known && hasTraits(known, traits)) return true;
    const id = (await identityOf(books)) ?? (await giveIdentity(books));
    await mkdir(memory, { recursive: true, mode: 0o755 });
    await using directory = await open(memory, DIRECTORY);
    await writeJson(directory, fileOf(path), { path, id, ...traits } satisfies KnownPool);
    return true;
  } catch (error) {
    warn('pool cannot be remembered', { pool: path, memory, error });
    return false;
  }
}

/** Whether just this is remembered; an overcommit that nobody names says nothing. */
export function hasTraits(known: PoolTraits, { real, overcommit }: PoolTraits): boolean {
  return known.real === real && (overcommit === undefined || known.overcommit === overcommit);
}

/** Path of an open directory without links. */
export async function realPathOf({ fd }: FileHandle): Promise<string> {
  return await readlink(`/proc/self/fd/${fd}`);
}

/**
 * Refuses what is not the pool that is known: no directory, one without books, or the books of another pool.
 * @throws {@link awayFailure} that says what an operator does
 */
export async function refuseOther(
  books: FileHandle | undefined,
  { known, node, memory }: { readonly known: KnownPool; readonly node: string; readonly memory: string },
): Promise<void> {
  const id = books && (await identityOf(books));
  if (id === known.id) return;
  const found = books ? 'another .dvflow than the one that it had' : 'no .dvflow any more';
  const forget = `rm ${join(memory, fileOf(known.path))}`;
  // what lay in it before is called gone only where there are books
  const anew = books ? forget : `${forget} && mkdir -p ${join(known.path, '.dvflow')}`;
  throw awayFailure(
    `pool ${known.path} on node ${node} has ${found}: its file system is not mounted. Mount it; if the pool was emptied or replaced on purpose, run on that node: ${anew}`,
    { nextRetryDelayMs: 10_000 },
  );
}

async function findMemory(memory: string | undefined): Promise<FileHandle | undefined> {
  return memory === undefined ? undefined : await open(memory, DIRECTORY).catch(undefinedIfAbsent);
}

async function identityOf(books: FileHandle): Promise<string | undefined> {
  const { id } = ((await readJson(books, IDENTITY)) ?? {}) as { id?: string };
  return id;
}

async function giveIdentity(books: FileHandle): Promise<string> {
  const id = randomUUID();
  await writeJson(books, IDENTITY, { id });
  return id;
}

/** A path may be longer than a name. */
function fileOf(path: string): string {
  return `${createHash('sha256').update(plainPath(path)).digest('hex').slice(0, 32)}.json`;
}

function asKnown(value: unknown): KnownPool | undefined {
  if (value === undefined) return undefined;
  const { path, id, real, overcommit } = (value ?? {}) as Partial<KnownPool>;
  if (typeof path !== 'string' || typeof id !== 'string')
    throw new Error(`what is remembered of a pool is not readable: ${JSON.stringify(value)}`);
  return { path, id, real, overcommit };
}
