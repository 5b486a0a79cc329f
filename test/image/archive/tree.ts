import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
} from 'node:fs';
import { unpackTar, type Unpacked, type UnpackOptions } from '../../../activities/image/archive/unpack.js';

/** Who unpacks: this process's user, or nobody where that is root. */
export const AS_NOBODY: readonly string[] =
  process.getuid?.() === 0 ? ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--'] : [];

/** One file of a tree, with everything that an archive says of it. */
export interface Found {
  readonly type: string;
  readonly mode: string;
  readonly mtimeNs: bigint;
  readonly size: bigint;
  readonly blocks: number;
  readonly owner: string;
  /** Where a link leads, or the digest of a file. */
  readonly content: string;
  /** First name of the same file. */
  readonly same: string;
}

const TYPES: Readonly<Record<number, string>> = {
  0o040000: 'directory',
  0o100000: 'file',
  0o120000: 'symlink',
};

/** Everything in a directory and itself, by path in latin1. Directories and files that cannot be read are opened up. */
export function listTree(root: string): Map<string, Found> {
  const found = new Map<string, Found>();
  const names = new Map<bigint, string>();

  function list(name: string): void {
    const path = Buffer.from(`${root}/${name}`, 'latin1');
    const { mode, mtimeNs, size, blocks, uid, gid, ino } = lstatSync(path, { bigint: true });
    const type = TYPES[Number(mode) & 0o170000] ?? `${mode}`;
    if (!names.has(ino)) names.set(ino, name);
    if (type !== 'symlink' && (Number(mode) & 0o700) !== 0o700) chmodSync(path, 0o700);
    found.set(name, {
      type,
      mode: (Number(mode) & 0o7777).toString(8),
      mtimeNs,
      size: type === 'directory' ? 0n : size,
      blocks: Number(blocks),
      owner: `${uid}:${gid}`,
      content: contentOf(type, path),
      same: names.get(ino)!,
    });
    if (type === 'directory')
      for (const child of readdirSync(path, 'latin1').toSorted()) list(`${name}/${child}`);
  }
  list('.');
  return found;
}

function contentOf(type: string, path: Buffer): string {
  if (type === 'symlink') return readlinkSync(path, 'latin1');
  return type === 'file' ? createHash('sha256').update(readFileSync(path)).digest('hex') : '';
}

/** How far two trees may differ. */
export interface Tolerance {
  /** Files made since then bear the time of their making. */
  readonly since: Date;
  /**
   * GNU tar sets a directory's time when it leaves it, and makes a parent that was left out in it later: then that time is now,
   * where the archive says another one. @default false
   */
  readonly lateDirectories?: boolean;
  /** In ns. @default 1000: what is below a microsecond is cut off */
  readonly mtimeNs?: number;
  /** Of 512 bytes. @default 32 */
  readonly blocks?: number;
}

/** Both trees are the same: names, types, modes, owners, times, link targets, hard links, contents and about the room they take. */
export function assertSameTree(
  actual: ReadonlyMap<string, Found>,
  expected: ReadonlyMap<string, Found>,
  { since, mtimeNs = 1000, blocks = 32, lateDirectories = false }: Tolerance,
): void {
  const plain = (tree: ReadonlyMap<string, Found>): unknown[] =>
    [...tree].map(([name, { blocks: _, mtimeNs: __, ...found }]) => ({ name, ...found }));
  assert.deepEqual(plain(actual), plain(expected));
  const now = BigInt(since.getTime()) * 1_000_000n;
  for (const [name, found] of actual) {
    const wanted = expected.get(name)!;
    const apart = Number(found.mtimeNs - wanted.mtimeNs);
    const late = lateDirectories && found.type === 'directory';
    const both = wanted.mtimeNs >= now && (found.mtimeNs >= now || late);
    assert.ok(both || Math.abs(apart) <= mtimeNs, `${name}: ${found.mtimeNs}, not ${wanted.mtimeNs}`);
    const more = Math.abs(found.blocks - wanted.blocks);
    assert.ok(more <= blocks, `${name}: ${found.blocks} blocks, not ${wanted.blocks}`);
  }
}

/** Unpacks by GNU tar, as CDI calls it; `prefix` is a command that runs it as somebody else. */
export function unpackByGnu(archive: string, target: string, prefix: readonly string[] = []): void {
  mkdirSync(target, { recursive: true });
  const args = ['--preserve-permissions', '--no-same-owner', '-x', '-f', archive, '-C', target];
  const [file = '', ...rest] = [...prefix, 'tar', ...args];
  const { status, stderr } = spawnSync(file, rest, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

/** Unpacks into a directory, which is made if it is missing. */
export async function unpackInto(
  target: string,
  bytes: AsyncIterable<Buffer>,
  options: Partial<UnpackOptions> = {},
): Promise<Unpacked> {
  mkdirSync(target, { recursive: true });
  const fd = openSync(target, 'r');
  try {
    return await unpackTar(
      bytes,
      { fd },
      {
        signal: new AbortController().signal,
        size: { claimName: 'team-a/vm1', usableBytes: 1024 ** 3 },
        ...options,
      },
    );
  } finally {
    closeSync(fd);
  }
}
