import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { assertSameTree, listTree, unpackByGnu } from '../image/archive/tree.js';
import { unwrap } from './containers.js';
import type { FuzzCase } from './cases.js';
import type { FuzzEnd } from './job.js';

/** For how long `qemu-img` may read an image that was changed. In seconds. */
const PATIENCE_S = 30;

/** Of a tool, in bytes. */
const MOST_OUTPUT = 64 * 1024 * 1024;

/** What others make of an image that the engine has read. */
export type OracleVerdict =
  | { readonly kind: 'equal' }
  | { readonly kind: 'different'; readonly how: string }
  /** It is refused by the tool that should know. */
  | { readonly kind: 'refuses'; readonly why: string }
  | { readonly kind: 'undecided'; readonly why: string };

type Done = Extract<FuzzEnd, { kind: 'done' }>;

/** Compares a disk with what `qemu-img` reads from the image, once the tools of its containers have taken those off. */
export function compareDisk({ job, driver, mutated }: FuzzCase, done: Done): OracleVerdict {
  const opened = unwrap(job.image);
  if ('refused' in opened) return { kind: 'refuses', why: opened.refused };
  const found = done.format === 'vhd' ? 'vpc' : done.format;
  if (!mutated && found !== driver) return { kind: 'different', how: `read as ${found}, it is ${driver}` };
  const sized = compareSizes(opened.path, found, done);
  if (sized !== undefined) return sized;
  const file = statSync(job.target).size;
  const wanted = job.usableBytes ?? done.virtualSize;
  if (file !== wanted || done.diskBytes !== wanted)
    return { kind: 'different', how: `the target has ${file} bytes (${done.diskBytes} told), not ${wanted}` };
  const image = asNewerQemu(opened.path, found);
  const args = [`${PATIENCE_S}`, 'qemu-img', 'compare', '-f', 'raw', '-F', found, job.target, image];
  const { status, stdout, stderr } = spawnSync('timeout', args, { encoding: 'utf8' });
  if (status === 0) return { kind: 'equal' };
  if (status === 1) return { kind: 'different', how: stdout.trim() };
  return status === 124
    ? { kind: 'undecided', why: 'qemu-img compare needs too long' }
    : { kind: 'refuses', why: `qemu-img compare: ${stderr.trim()}` };
}

function compareSizes(image: string, driver: string, { virtualSize }: Done): OracleVerdict | undefined {
  const size = driver === 'raw' ? statSync(image).size : sizeByQemu(image, driver);
  if (typeof size === 'string') return { kind: 'refuses', why: size };
  return size === virtualSize
    ? undefined
    : { kind: 'different', how: `the disk has ${virtualSize} bytes, qemu-img says ${size}` };
}

function sizeByQemu(image: string, driver: string): number | string {
  const path = asNewerQemu(image, driver);
  const args = [`${PATIENCE_S}`, 'qemu-img', 'info', '--output=json', '-f', driver, path];
  // it lists every snapshot that a header claims
  const { status, stdout, stderr } = spawnSync('timeout', args, { encoding: 'utf8', maxBuffer: MOST_OUTPUT });
  if (status !== 0) return `qemu-img info: ${stderr.trim()}`;
  return (JSON.parse(stdout) as Record<string, number>)['virtual-size'] ?? 'qemu-img info tells no size';
}

/** The name by which a QEMU before 10 reads a VHD as that one does: of unknown creators the footer's size counts, not the geometry. */
function asNewerQemu(filename: string, driver: string): string {
  if (driver !== 'vpc' || ['vpc ', 'qemu'].includes(creatorOf(filename))) return filename;
  return `json:${JSON.stringify({ force_size_calc: 'current_size', file: { driver: 'file', filename } })}`;
}

/** Of the footer that QEMU goes by: the copy at the start, else the one at the end. */
function creatorOf(path: string): string {
  const image = readFileSync(path);
  const copied = image.toString('latin1', 0, 8) === 'conectix';
  return (copied ? image : image.subarray(-512)).toString('latin1', 28, 32);
}

/** Compares a directory with what GNU tar unpacks. */
export function compareTree({ job }: FuzzCase, since: Date): OracleVerdict {
  const expected = `${job.image}.by-gnu`;
  const inside = unwrapCompressor(job.image);
  if (inside === undefined) return { kind: 'refuses', why: 'the compressor' };
  try {
    unpackByGnu(inside, expected);
  } catch (error) {
    return { kind: 'refuses', why: `tar: ${(error as Error).message}` };
  }
  try {
    assertSameTree(listTree(job.target), listTree(expected), { since, lateDirectories: true });
    return { kind: 'equal' };
  } catch (error) {
    return { kind: 'different', how: (error as Error).message };
  }
}

function unwrapCompressor(path: string): string | undefined {
  const plain = `${path}.tar`;
  const script =
    'case $(head -c 2 "$1" | od -An -tx1 | tr -d " ") in 1f8b) gzip -dc;; fd37) xz -dc;; 28b5|5?2a) zstd -qdc;; *) cat;; esac';
  try {
    execFileSync('bash', ['-ec', `${script} < "$1" > "$2"`, 'bash', path, plain], {
      stdio: 'pipe',
      timeout: 30_000,
    });
    return plain;
  } catch {
    return undefined;
  }
}
