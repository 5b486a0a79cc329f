import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { makeRaw } from '../image/support/images.js';
import type { Random } from '../support/random.js';
import type { ValidImage } from './valid-images.js';

const PACKERS = ['cat', 'gzip -nc1', 'xz -T1 -0 -c', 'xz -0 -T2 --block-size=64KiB -c', 'zstd -qc1'];

/** An archive of a small tree for `contentType: archive`, plain or in a compressor. */
export function makeArchive(random: Random, path: string): ValidImage {
  const tree = `${path}.tree`;
  makeTree(random, tree);
  const format = random.pick(['v7', 'oldgnu', 'gnu', 'ustar', 'pax']);
  const sparse = format === 'v7' || format === 'ustar' ? '' : random.pick(['', '-S']);
  const packer = random.pick(PACKERS);
  const script = `tar --format=${format} ${sparse} --sort=name -C "$1" -cf - . | ${packer} > "$2"`;
  execFileSync('bash', ['-ec', script, 'bash', tree, path], { stdio: 'pipe' });
  rmSync(tree, { recursive: true });
  return { path, driver: 'tar', story: [`tar ${format} ${sparse} | ${packer}`] };
}

function makeTree(random: Random, root: string): void {
  mkdirSync(root);
  let directory = root;
  const files: string[] = [];
  for (let count = random.integer(1, 12); count > 0; count -= 1) {
    const path = `${directory}/${'n'.repeat(random.pick([1, 5, 90, 120]))}${count}`;
    const kind = random.pick(['file', 'file', 'file', 'directory', 'symlink', 'hardlink'] as const);
    if (kind === 'directory') mkdirSync((directory = path));
    else if (kind === 'symlink') symlinkSync(random.pick(['n1', '.']), path);
    else if (kind === 'hardlink' && files.length > 0) linkSync(random.pick(files), path);
    else files.push(makeRaw(path, random.integer(0, 300_000), random.integer(1, 2 ** 31)));
  }
}
