import { createCipheriv } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import type { Random } from '../../support/random.js';
import { MIB } from './images.js';

/** A raw disk of noise, text and zeros in stretches of up to 1 MiB, with a ragged end: three quarters of it compress to nothing less. */
export function makeNoisy(path: string, mebibytes: number, random: Random): string {
  const bytes = mebibytes * MIB + 12_345 * 512;
  const noise = createCipheriv('aes-128-ctr', Buffer.alloc(16, random.integer(0, 255)), Buffer.alloc(16));
  const disk = noise.update(Buffer.alloc(bytes));
  for (let at = 0; at < bytes;) {
    const end = Math.min(bytes, at + 512 * random.integer(1, 2048));
    const kind = random.fraction();
    if (kind < 0.12) disk.fill(0, at, end);
    else if (kind < 0.25) disk.fill(`line ${at} of a log\n`, at, end);
    at = end;
  }
  writeFileSync(path, disk);
  return path;
}
