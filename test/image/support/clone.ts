/** One clone as a node worker makes it: the volume that is read, and the reserved directory that is filled. */
import { randomUUID } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { mkdirSync, statSync, writeFileSync, truncateSync } from 'node:fs';
import type { CloneInput, SourceVolume } from '../../../activities/types/clone.js';
import type { TransferDependencies } from '../../../activities/image/transfer.js';
import type { TransferInput } from '../../../activities/types.js';
import { reserve } from './transfer.js';

const NO_SERVER = { url: 'http://127.0.0.1:1/' };

/** A volume of this machine, as a PersistentVolume says it. */
export function sourceVolume(path: string, more: Partial<SourceVolume> = {}): SourceVolume {
  return {
    node: 'here',
    volume: 'pvc-source',
    volumeUid: randomUUID(),
    volumeMode: 'Filesystem',
    path,
    ...more,
  };
}

/** A directory of a volume below `root`, with the disk that `make` writes. */
export function makeSource(
  root: string,
  make: (disk: string) => void,
): { volume: SourceVolume; disk: string } {
  const path = `${root}/pvc-${randomUUID()}`;
  mkdirSync(path, { recursive: true });
  const disk = `${path}/disk.img`;
  make(disk);
  return { volume: sourceVolume(path), disk };
}

/** A reserved directory in a pool below `root`, and a clone into it. */
export async function reserveClone(
  root: string,
  clone: Partial<CloneInput> & Pick<CloneInput, 'volume'>,
  {
    usableBytes,
    ...more
  }: { readonly usableBytes: number } & Partial<TransferDependencies> & Pick<TransferInput, 'contentType'>,
) {
  const made = await reserve(root, NO_SERVER, usableBytes, {}, more);
  Object.assign(made.input, { clone: { method: 'copy', generation: 1, ...clone } satisfies CloneInput });
  return made;
}

/** Writes a sparse file: pieces of noise at these offsets. */
export function makeSparse(
  path: string,
  bytes: number,
  pieces: readonly (readonly [at: number, length: number])[],
): void {
  writeFileSync(path, '');
  truncateSync(path, bytes);
  for (const [at, length] of pieces)
    execFileSync(
      'dd',
      [
        'if=/dev/urandom',
        `of=${path}`,
        'bs=1M',
        'conv=notrunc',
        'oflag=seek_bytes',
        'iflag=count_bytes',
        `seek=${at}`,
        `count=${length}`,
      ],
      { stdio: 'ignore' },
    );
  execFileSync('sync', [path]);
}

/** Bytes of the file that take room. */
export const allocated = (path: string): number => statSync(path).blocks * 512;

/** Everything that would show that a file was touched. */
export function traceOf(path: string): string {
  const { mtimeNs, ctimeNs, atimeNs, size, ino, blocks } = statSync(path, { bigint: true });
  return [mtimeNs, ctimeNs, atimeNs, size, ino, blocks].join(' ');
}

/** Bytes of a file whose blocks another one has too, as the file system tells. */
export function sharedBytes(path: string): number {
  const shown = execFileSync('filefrag', ['-v', path], { encoding: 'utf8' });
  const extents = shown.split('\n').filter((line) => /\bshared\b/.test(line));
  const blocks = extents.map((line) => Number(line.split(':')[3]));
  return blocks.reduce((sum, count) => sum + count, 0) * 4096;
}

/** A file system of this type on a loop device over a file, mounted until the end of the block; `undefined` where it cannot be. */
export function tryFileSystem(
  root: string,
  type: 'xfs' | 'btrfs' | 'ext4',
  mebibytes: number,
): ({ readonly path: string } & Disposable) | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const image = `${root}/${type}-${randomUUID()}.img`;
  const path = `${root}/${type}-${randomUUID()}`;
  writeFileSync(image, '');
  truncateSync(image, mebibytes * 1024 * 1024);
  execFileSync(`mkfs.${type}`, ['-q', image], { stdio: 'ignore' });
  mkdirSync(path);
  try {
    execFileSync('mount', ['-o', 'loop', image, path], { stdio: 'ignore' });
  } catch {
    // a kernel without this file system
    return undefined;
  }
  return { path, [Symbol.dispose]: () => execFileSync('umount', ['--lazy', path]) };
}
