import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** A disk as it lies on the web server, and what must come out at the other end. */
export interface DemoDisk {
  /** The file to serve: qcow2 in xz. */
  readonly path: string;
  readonly fileBytes: number;
  /** Size that the guest sees. */
  readonly virtualSize: number;
  /** Of the whole raw disk. */
  readonly sha256: string;
  readonly files: number;
}

const VIRTUAL_SIZE = 512 * 1024 * 1024;
const FILE_BYTES = 8 * 1024 * 1024;
const RANDOM_FILES = 3;

/** Where mke2fs is when the user's PATH leaves the administrator's programs out. */
const TOOL_PATH = `${process.env.PATH ?? ''}:/usr/sbin:/sbin:/usr/local/sbin`;

/** Makes an ext4 file system with files in it, as a compressed qcow2 inside xz. @throws Error naming a tool that is missing */
export async function makeDisk(directory: string): Promise<DemoDisk> {
  const raw = join(directory, 'disk.raw');
  const qcow2 = join(directory, 'disk.qcow2');
  const files = await writeFiles(join(directory, 'files'));
  await runTool('mke2fs', [
    '-q',
    '-t',
    'ext4',
    '-F',
    '-L',
    'dvflow-demo',
    '-d',
    join(directory, 'files'),
    raw,
    `${VIRTUAL_SIZE / 1024}k`,
  ]);
  const sha256 = await sha256Of(raw, VIRTUAL_SIZE);
  await runTool('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-c', raw, qcow2]);
  // Several blocks, so that a resume may enter the chain in the middle.
  await runTool('xz', ['-0', '-T0', '--block-size=8MiB', qcow2]);
  const path = `${qcow2}.xz`;
  return { path, fileBytes: (await stat(path)).size, virtualSize: VIRTUAL_SIZE, sha256, files };
}

/** Files that no compressor shortens, and one that every compressor does. */
async function writeFiles(directory: string): Promise<number> {
  await mkdir(directory);
  for (let n = 1; n <= RANDOM_FILES; n++)
    await writeFile(join(directory, `data-${n}.bin`), randomBytes(FILE_BYTES));
  await writeFile(join(directory, 'zeros.bin'), Buffer.alloc(FILE_BYTES));
  await writeFile(
    join(directory, 'hello.txt'),
    `made by dvflow demo at ${new Date().toISOString()}\n`.repeat(100_000),
  );
  return RANDOM_FILES + 2;
}

/** sha256 of the first bytes of a file. */
export async function sha256Of(path: string, length: number): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { end: length - 1, highWaterMark: 1 << 20 }))
    hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Whether a file holds nothing but zeros from an offset to its end. */
export async function isZeroFrom(path: string, offset: number): Promise<boolean> {
  const zeros = Buffer.alloc(1 << 20);
  for await (const chunk of createReadStream(path, { start: offset, highWaterMark: zeros.length })) {
    const bytes = chunk as Buffer;
    if (!bytes.equals(zeros.subarray(0, bytes.length))) return false;
  }
  return true;
}

async function runTool(file: string, args: readonly string[]): Promise<void> {
  try {
    await promisify(execFile)(file, [...args], { env: { ...process.env, PATH: TOOL_PATH } });
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: string };
    if (code !== 'ENOENT')
      throw new Error(`${file} failed: ${stderr?.trim() || String(code)}`, { cause: error });
    const install = 'apt-get install e2fsprogs qemu-utils xz-utils';
    throw new Error(
      `the demo makes its disk with ${file}, which is not installed: ${install}, or give --url`,
      { cause: error },
    );
  }
}
