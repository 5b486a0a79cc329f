import { closeSync, ftruncateSync, openSync, readSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { makeOnce, type Image, type Images } from './images.js';
import { bash } from './processes.js';

const MIB = 1024 * 1024;

/** A disk much larger than the data on it. */
export interface SparseDisk {
  readonly gib: number;
  readonly dataMib: number;
  /** How the image holds it. @default qcow2 */
  readonly kind?: SparseKind;
}

/** `xz` is the qcow2 in xz. */
export type SparseKind = 'qcow2' | 'zlib' | 'xz' | 'raw';

const SUFFIX = { qcow2: 'qcow2', zlib: 'zlib.qcow2', xz: 'qcow2.xz', raw: 'img' } as const satisfies Record<
  SparseKind,
  string
>;

const CHECK = 'qemu-img check -q -f qcow2 "$OUTPUT"; qemu-img compare -q -f raw -F qcow2 "$RAW" "$OUTPUT"';

/** Makes each kind as `OUTPUT`, of the raw disk `RAW` or the image `QCOW2`, and checks it. */
const SCRIPTS = {
  qcow2: `qemu-img convert -f raw -O qcow2 "$RAW" "$OUTPUT"; ${CHECK}`,
  zlib: `qemu-img convert -f raw -O qcow2 -c "$RAW" "$OUTPUT"; ${CHECK}`,
  xz: 'xz -c -T0 "$QCOW2" > "$OUTPUT"; xz -dc -T0 "$OUTPUT" | cmp - "$QCOW2"',
  raw: 'qemu-img compare -q -f qcow2 -F raw "$QCOW2" "$RAW"; mv "$RAW" "$OUTPUT"',
} as const satisfies Record<SparseKind, string>;

/** A sparse image, and one of the same disk that results are compared with. */
export interface SparseImage {
  readonly image: Image;
  readonly disk: Pick<Image, 'file' | 'format'>;
}

/** Makes the image unless it is there, of data that the benchmark's disk has, in MiB pieces spread evenly. */
export async function prepareSparse(
  images: Images,
  disk: SparseDisk,
  log: (line: string) => void,
): Promise<SparseImage> {
  const { kind = 'qcow2' } = disk;
  const pathOf = (of: SparseKind): string => `sparse-${disk.gib}g-${disk.dataMib}m.${SUFFIX[of]}`;
  const fileOf = (of: SparseKind): string => join(images.directory, pathOf(of));
  for (const of of new Set<SparseKind>(['qcow2', kind]))
    await makeOnce(fileOf(of), log, async (output) => {
      const env = { RAW: `${fileOf('raw')}.spread`, QCOW2: fileOf('qcow2'), OUTPUT: output };
      if (of !== 'xz') spread(images.of('raw').file, env.RAW, disk);
      await bash(SCRIPTS[of], { env });
      rmSync(env.RAW, { force: true });
    });
  const bytes = statSync(fileOf(kind)).size;
  return {
    image: {
      path: pathOf(kind),
      file: fileOf(kind),
      format: kind === 'raw' ? 'raw' : 'qcow2',
      bytes,
      streamBytes: kind === 'xz' ? statSync(fileOf('qcow2')).size : bytes,
    },
    disk: { file: fileOf('qcow2'), format: 'qcow2' },
  };
}

/** Writes the data of one disk, again from its start where it is not enough, at even distances over another. */
function spread(from: string, to: string, { gib, dataMib }: SparseDisk): void {
  const input = openSync(from, 'r');
  const output = openSync(to, 'w');
  try {
    ftruncateSync(output, gib * 1024 * MIB);
    const piece = Buffer.alloc(MIB);
    const size = statSync(from).size;
    for (let at = 0, done = 0; done < dataMib; at = (at + MIB) % size) {
      readSync(input, piece, 0, MIB, at);
      if (hasHole(piece)) continue;
      writeSync(output, piece, 0, MIB, Math.floor((done * gib * 1024) / dataMib) * MIB);
      done += 1;
    }
  } finally {
    closeSync(input);
    closeSync(output);
  }
}

/** Whether one of 16 pages is zero: data must be data, so that its amount is what was asked for. */
function hasHole(piece: Buffer): boolean {
  const page = Buffer.alloc(4096);
  for (let at = 0; at < piece.length; at += 16 * page.length)
    if (piece.compare(page, 0, page.length, at, at + page.length) === 0) return true;
  return false;
}
