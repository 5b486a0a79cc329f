import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const MIB = 1024 * 1024;

/** A directory that is removed after the suite. */
export function useDirectory(): () => string {
  let directory = '';
  before(() => (directory = mkdtempSync(join(tmpdir(), 'dvflow-image-'))));
  after(function () {
    // tens of thousands of files on a busy disk
    this.timeout(300_000);
    rmSync(directory, { recursive: true, force: true });
  });
  return () => directory;
}

/** Runs `qemu-img`; what it prints. */
export function qemuImg(...args: readonly string[]): string {
  return execFileSync('qemu-img', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Runs `qemu-io` commands on an image. */
export function qemuIo(path: string, format: string, ...commands: readonly string[]): void {
  execFileSync('qemu-io', ['-f', format, ...commands.flatMap((command) => ['-c', command]), path], {
    stdio: 'pipe',
  });
}

/** A raw disk with text-like data, noise, zeros in between and a ragged end; `seed` varies it. */
export function makeRaw(path: string, bytes: number, seed = 1): string {
  let state = seed;
  // the low bits of this generator repeat soon: only the high ones are used
  const random = (): number => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) >>> 16;
  const content = Buffer.alloc(bytes);
  for (let at = 0; at < bytes;) {
    const length = Math.min(bytes - at, 512 * (1 + (random() % 512)));
    const kind = random() % 4;
    for (let index = at; kind > 1 && index < at + length; index += 1)
      content[index] = kind === 2 ? random() & 0xff : 97 + (index % 13);
    at += length;
  }
  writeFileSync(path, content);
  return path;
}

/** A raw disk full of data, each MiB another: nothing can be skipped, and what is misplaced is seen. */
export function makePatterned(path: string, mebibytes: number): string {
  const content = Buffer.alloc(mebibytes * MIB);
  for (let index = 0; index < mebibytes; index += 1)
    content.fill(`<${index}>`, index * MIB, (index + 1) * MIB);
  writeFileSync(path, content);
  return path;
}

/** Memory of {@link sha256}: files of many MiB at a time would keep the collector of the test process busy. */
const PIECE = Buffer.alloc(MIB);

/** Digest of a file. */
export function sha256(path: string): string {
  const hash = createHash('sha256');
  const fd = openSync(path, 'r');
  try {
    for (let count = readSync(fd, PIECE); count > 0; count = readSync(fd, PIECE))
      hash.update(PIECE.subarray(0, count));
  } finally {
    closeSync(fd);
  }
  return hash.digest('hex');
}
