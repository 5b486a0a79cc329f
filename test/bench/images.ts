import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { makeDisk, type DiskSize } from './disk.js';
import { bash } from './processes.js';
import { makeWorn } from './worn.js';
import type { Workspace } from './workspace.js';

/** Raised whenever an image is made in another way: those of earlier versions are removed. */
const VERSION = 'v1';

const SIZES = {
  quick: { diskMib: 2048, dataMib: 600 },
  full: { diskMib: 6144, dataMib: 1695 },
} as const satisfies Record<string, DiskSize>;

/** Every image of the table holds the same disk. */
export type ImageName =
  'raw' | 'plain' | 'zlib' | 'zstd' | 'worn' | 'raw.gz' | 'qcow2.gz' | 'raw.xz' | 'qcow2.xz';

/** An image as the rows use it. */
export interface Image {
  /** Below the images' directory. */
  readonly path: string;
  readonly file: string;
  /** Without its wrapper. */
  readonly format: 'raw' | 'qcow2';
  readonly bytes: number;
  /** Without its wrapper. */
  readonly streamBytes: number;
}

/** Images that are made, and what is known of the disk on them. */
export interface Images {
  readonly directory: string;
  /** @throws where that image was not asked for, and was never made */
  of(image: ImageName): Image;
  readonly diskBytes: number;
  readonly dataBytes: number;
  /** Blocks that `qemu-img convert` allocates for this disk, in bytes. */
  readonly referenceBytes: number;
  /** Of the plain image. */
  readonly sha256: string;
}

interface Recipe {
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
  /** Image whose file is inside. */
  readonly inside?: ImageName;
  /** Makes `OUTPUT` of `RAW` or `PLAIN`. */
  readonly script?: string;
  /** Fails unless `OUTPUT` is sound and holds the disk `RAW`. */
  readonly check?: string;
}

const QCOW2_CHECK =
  'qemu-img check -q -f qcow2 "$OUTPUT" && qemu-img compare -q -f raw -F qcow2 "$RAW" "$OUTPUT"';

/** In the order in which they are made. */
const RECIPES: Readonly<Record<ImageName, Recipe>> = {
  raw: { path: 'raw.img', format: 'raw' },
  plain: qcow2('plain', ''),
  zlib: qcow2('zlib', '-c'),
  zstd: qcow2('zstd', '-c -o compression_type=zstd'),
  worn: { path: 'worn.qcow2', format: 'qcow2', check: QCOW2_CHECK },
  'raw.gz': wrapped('raw', 'gz', 'gzip -c'),
  'qcow2.gz': wrapped('plain', 'gz', 'gzip -c'),
  'raw.xz': wrapped('raw', 'xz', 'xz -c -T0'),
  'qcow2.xz': wrapped('plain', 'xz', 'xz -c -T0'),
};

function qcow2(name: string, options: string): Recipe {
  const script = `qemu-img convert -q -f raw -O qcow2 ${options} "$RAW" "$OUTPUT"`;
  return { path: `${name}.qcow2`, format: 'qcow2', script, check: QCOW2_CHECK };
}

function wrapped(inside: 'raw' | 'plain', suffix: 'gz' | 'xz', tool: string): Recipe {
  const input = inside === 'raw' ? '$RAW' : '$PLAIN';
  return {
    path: `${inside === 'raw' ? 'raw.img' : 'plain.qcow2'}.${suffix}`,
    format: inside === 'raw' ? 'raw' : 'qcow2',
    inside,
    script: `${tool} "${input}" > "$OUTPUT"`,
    check: `${suffix === 'gz' ? 'gzip' : 'xz -T0'} -dc "$OUTPUT" | cmp - "${input}"`,
  };
}

/** The disk of the quick run and of the whole one. */
export function sizeOf(quick: boolean): DiskSize {
  return quick ? SIZES.quick : SIZES.full;
}

/** What {@link prepareImages} is asked for. */
export interface ImagesPlan {
  readonly quick: boolean;
  /** Beside the disk and its plain image, which everything needs. */
  readonly images: readonly ImageName[];
  readonly log: (line: string) => void;
}

/** Makes what is missing of these, each image checked once and compared with the disk; the rest is used as it is. */
export async function prepareImages(
  workspace: Workspace,
  { quick, images, log }: ImagesPlan,
): Promise<Images> {
  const name = `${VERSION}-${quick ? 'quick' : 'full'}`;
  const directory = join(workspace.cache, name);
  mkdirSync(directory, { recursive: true });
  for (const other of readdirSync(workspace.cache))
    if (/^v\d+-/.test(other) && !other.startsWith(`${VERSION}-`))
      rmSync(join(workspace.cache, other), { recursive: true });
  const size = sizeOf(quick);
  removePartial(directory);
  const wanted: ReadonlySet<ImageName> = new Set(['raw', 'plain', ...images]);
  const missing = (Object.keys(RECIPES) as ImageName[]).filter(
    (image) => wanted.has(image) && !existsSync(join(directory, RECIPES[image].path)),
  );
  checkRoom(directory, size, missing.length);
  for (const image of missing)
    await makeOnce(join(directory, RECIPES[image].path), log, (output) =>
      make(image, output, { directory, scratch: join(workspace.directory, 'making'), size }),
    );
  const of = (image: ImageName): Image => describe(directory, image);
  const dataBytes = statSync(of('raw').file).blocks * 512;
  return {
    directory,
    of,
    dataBytes,
    diskBytes: size.diskMib * 1024 * 1024,
    ...(await facts(directory, of('plain'))),
  };
}

/** Makes a file under another name first, so that one that is there is whole. */
export async function makeOnce(
  file: string,
  log: (line: string) => void,
  make: (output: string) => Promise<void>,
): Promise<void> {
  if (existsSync(file)) return;
  const partial = `${file}.making-${process.pid}`;
  const start = Date.now();
  log(`making ${file}`);
  await make(partial);
  renameSync(partial, file);
  const mebibytes = Math.round((statSync(file).blocks * 512) / 1024 / 1024);
  log(`  ${mebibytes} MiB, ${Math.round((Date.now() - start) / 1000)} s`);
}

/** Removes what runs that were killed have begun. */
function removePartial(directory: string): void {
  for (const name of readdirSync(directory)) {
    const pid = /\.making-(\d+)$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(directory, name), { force: true });
  }
}

interface Making {
  readonly directory: string;
  readonly scratch: string;
  readonly size: DiskSize;
}

async function make(image: ImageName, output: string, { directory, scratch, size }: Making): Promise<void> {
  const { script, check } = RECIPES[image];
  const raw = join(directory, RECIPES.raw.path);
  const env = { RAW: raw, PLAIN: join(directory, RECIPES.plain.path), OUTPUT: output };
  if (image === 'raw') await makeDisk(output, scratch, size);
  else if (image === 'worn') await makeWorn(raw, output, scratch);
  if (script !== undefined) await bash(script, { env });
  if (check !== undefined) await bash(check, { env });
}

function describe(directory: string, image: ImageName): Image {
  const fileOf = (name: ImageName): string => join(directory, RECIPES[name].path);
  const { path, format, inside } = RECIPES[image];
  const bytes = statSync(fileOf(image)).size;
  const streamBytes = inside === undefined ? bytes : statSync(fileOf(inside)).size;
  return { path, file: fileOf(image), format, bytes, streamBytes };
}

/** What takes a while to find out is kept beside the images. */
async function facts(directory: string, plain: Image): Promise<Pick<Images, 'referenceBytes' | 'sha256'>> {
  const file = join(directory, 'facts.json');
  if (!existsSync(file)) {
    const env = { PLAIN: plain.file, TARGET: join(directory, 'reference.img') };
    await bash('qemu-img convert -f qcow2 -O raw "$PLAIN" "$TARGET" && sync "$TARGET"', { env });
    const referenceBytes = statSync(env.TARGET).blocks * 512;
    rmSync(env.TARGET);
    const [sha256 = ''] = (await bash('sha256sum < "$PLAIN"', { env })).split(' ');
    writeFileSync(file, JSON.stringify({ referenceBytes, sha256 }));
  }
  return JSON.parse(readFileSync(file, 'utf8')) as Pick<Images, 'referenceBytes' | 'sha256'>;
}

/** An image takes at most about one and a half times the data, and a run with scratch twice the disk. */
function checkRoom(directory: string, { diskMib, dataMib }: DiskSize, missing: number): void {
  const { bavail, bsize } = statfsSync(directory);
  const needed = (1.5 * missing * dataMib + 2 * diskMib) * 1024 * 1024;
  const free = bavail * bsize;
  if (free < needed)
    throw new Error(`${directory} has ${free} bytes free, the benchmark needs ${needed}: set XDG_CACHE_HOME`);
}
