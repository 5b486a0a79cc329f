import { randomFillSync } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { bash } from './processes.js';

const MIB = 1024 * 1024;

/** What is put on the disk: as much of these, in their order, as makes the data. */
const TREES = ['/usr/lib', '/usr/bin', '/usr/share', '/usr/include', '/usr/libexec'];

/** Larger ones would make the data depend on one or two files. */
const LARGEST_FILE = 64 * MIB;

/** Part of the data that no compressor makes smaller: 120 of 1695 MiB. */
const INCOMPRESSIBLE = 120 / 1695;

/** Part of the data that the file system's own tables take. */
const TABLES = 0.02;

/** Sizes of the disk and of the data on it, in MiB. */
export interface DiskSize {
  readonly diskMib: number;
  readonly dataMib: number;
}

/**
 * Makes the disk that every image holds: a partition table, one ext4 with parts of this machine's /usr and some noise, the rest
 * never written. `qemu-img` leaves the holes where it always leaves them.
 */
export async function makeDisk(output: string, scratch: string, size: DiskSize): Promise<void> {
  const tree = join(scratch, 'tree');
  rmSync(scratch, { recursive: true, force: true });
  mkdirSync(tree, { recursive: true });
  fillTree(tree, size.dataMib * MIB * (1 - TABLES));
  await bash(
    `truncate -s "$DISK_MIB"M "$RAW"
     printf 'label: gpt\nlabel-id: 3a1ad1a5-7d0c-4c3e-9f2b-9c5d6d6b7e01\nstart=2048, type=linux\n' | sfdisk -q "$RAW"
     mke2fs -q -F -t ext4 -m 0 -J size=16 -E offset=1048576,nodiscard -d "$TREE" "$RAW" "$((DISK_MIB - 2))M"
     qemu-img convert -f raw -O raw "$RAW" "$OUTPUT"`,
    {
      env: { RAW: join(scratch, 'disk.raw'), TREE: tree, DISK_MIB: String(size.diskMib), OUTPUT: output },
    },
  );
  rmSync(scratch, { recursive: true, force: true });
}

function fillTree(tree: string, bytes: number): void {
  const noise = bytes * INCOMPRESSIBLE;
  writeNoise(join(tree, 'noise'), noise);
  let left = bytes - noise;
  // A small system is copied until it is enough: no compressor looks back that far.
  for (let copy = 1; left > 0; copy += 1) {
    const before = left;
    for (const source of TREES) left = copyTree(source, join(tree, `copy-${copy}`), left);
    if (left === before) throw new Error('nothing readable in /usr to fill the disk with');
  }
}

/** Copies files until `left` bytes of blocks are used up; how many are left then. */
function copyTree(source: string, target: string, left: number): number {
  const made = new Set<string>();
  for (const [directory, name] of walk(source)) {
    if (left <= 0) return left;
    const file = join(directory, name);
    const bytes = readableBytes(file);
    if (bytes === 0) continue;
    const into = join(target, relative('/', directory));
    if (!made.has(into)) mkdirSync(into, { recursive: true });
    made.add(into);
    copyFileSync(file, join(into, name));
    left -= Math.ceil(bytes / 4096) * 4096;
  }
  return left;
}

/** Bytes of an ordinary file that everybody may read, else 0: no image should hold what one user alone can see. */
function readableBytes(file: string): number {
  const { size, mode } = statSync(file);
  const ordinary = (mode & 0o004) !== 0 && (mode & 0o6000) === 0;
  return ordinary && size <= LARGEST_FILE ? size : 0;
}

function* walk(directory: string): Generator<readonly [string, string]> {
  const entries = list(directory);
  for (const entry of entries) if (entry.isFile()) yield [directory, entry.name];
  for (const entry of entries) if (entry.isDirectory()) yield* walk(join(directory, entry.name));
}

function list(directory: string) {
  try {
    return readdirSync(directory, { withFileTypes: true }).sort((one, other) =>
      one.name < other.name ? -1 : 1,
    );
  } catch {
    // a directory that this user may not read
    return [];
  }
}

function writeNoise(path: string, bytes: number): void {
  const fd = openSync(path, 'w');
  try {
    const block = Buffer.alloc(MIB);
    for (let left = bytes; left > 0; left -= MIB) writeSync(fd, randomFillSync(block));
  } finally {
    closeSync(fd);
  }
}
