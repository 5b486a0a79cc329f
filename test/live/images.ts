/** Disk images that tests make with the reference tools. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { link, mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const MiB = 1 << 20;

/** One disk in several formats; it is the same for all suites that ask for such a disk, and only read. */
export interface Images {
  /** The suite's own, with the disk in it. */
  readonly directory: string;
  /** The disk itself. */
  readonly raw: string;
  readonly virtualSize: number;
  /** Path of the disk in another form: `qcow2`, `raw.gz`, `qcow2.xz`, … made on first use. */
  as(form: string): Promise<string>;
  remove(): Promise<void>;
}

/** Disks that were made, by their size and their data. */
const disks = new Map<string, Promise<string>>();

after('remove the disk images', async () => {
  for (const made of await Promise.allSettled(disks.values()))
    if (made.status === 'fulfilled') await rm(dirname(made.value), { recursive: true, force: true });
});

/** A sparse disk: data that does not compress at the start, in the middle and at the end, zeros between. */
export async function makeImages({
  sizeMiB = 48,
  dataMiB = 24,
}: { sizeMiB?: number; dataMiB?: number } = {}): Promise<Images> {
  const key = `${sizeMiB}/${dataMiB}`;
  const making = disks.get(key) ?? makeDisk(sizeMiB * MiB, dataMiB);
  disks.set(key, making);
  const shared = await making;
  const directory = await mkdtemp(join(tmpdir(), 'dvflow-images-'));
  const raw = join(directory, 'disk.raw');
  await link(shared, raw);
  return {
    directory,
    raw,
    virtualSize: sizeMiB * MiB,
    as: (form) => (form === 'raw' ? Promise.resolve(raw) : convert(dirname(shared), shared, form)),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

async function makeDisk(bytes: number, dataMiB: number): Promise<string> {
  const raw = join(await mkdtemp(join(tmpdir(), 'dvflow-images-')), 'disk.raw');
  await writeSparse(raw, bytes, dataMiB);
  return raw;
}

async function writeSparse(path: string, bytes: number, dataMiB: number): Promise<void> {
  const file = await open(path, 'w');
  await file.truncate(bytes);
  const stride = Math.floor(bytes / dataMiB / MiB) * MiB;
  for (let index = 0; index < dataMiB; index++) await file.write(randomBytes(MiB), 0, MiB, index * stride);
  // what is random may begin like a gzip
  await file.write(Buffer.alloc(512), 0, 512, 0);
  await file.write(Buffer.from('the end'), 0, 7, bytes - 7);
  await file.close();
}

const made = new Map<string, Promise<string>>();

async function convert(directory: string, raw: string, form: string): Promise<string> {
  const key = `${directory}/${form}`;
  const before = made.get(key);
  if (before) return await before;
  const path = make(directory, raw, form);
  made.set(key, path);
  return await path;
}

async function make(directory: string, raw: string, form: string): Promise<string> {
  const [format = 'raw', compression] = form.split('.');
  const plain = format === 'raw' ? raw : join(directory, `disk.${format}`);
  if (format === 'qcow2') await run('qemu-img', ['convert', '-O', 'qcow2', raw, plain]);
  if (['vmdk', 'vdi', 'vpc', 'vhdx'].includes(format))
    await run('qemu-img', ['convert', '-f', 'raw', '-O', format, raw, plain]);
  // its clusters are anywhere, and what maps them may come last
  if (format === 'snapshot') {
    await run('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, plain]);
    await run('qemu-img', ['snapshot', '-c', 'before', plain]);
  }
  if (format === 'qcow2c') await run('qemu-img', ['convert', '-c', '-O', 'qcow2', raw, plain]);
  if (!compression) return plain;
  if (compression === 'gz') await run('gzip', ['-1', '--keep', '--force', plain]);
  if (compression === 'xz') await run('xz', ['-0', '--keep', '--force', '--block-size=4MiB', plain]);
  return `${plain}.${compression}`;
}

/** The image with a backing file name written into its header (bytes 8-19), as `qemu-img rebase -u` does. */
export async function withBacking(images: Images): Promise<Buffer> {
  const image = Buffer.from(await readFile(await images.as('qcow2')));
  image.writeBigUInt64BE(512n, 8);
  image.writeUInt32BE(11, 16);
  image.write('/etc/passwd', 512);
  return image;
}
