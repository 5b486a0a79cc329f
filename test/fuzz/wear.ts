import { execFileSync } from 'node:child_process';
import type { Random } from '../support/random.js';

/** An image to be written to. */
export interface Worn {
  readonly path: string;
  readonly driver: string;
  /** Offsets up to here are written to, in bytes. */
  readonly bytes: number;
  readonly commands?: readonly string[];
}

/** Commands of `qemu-io` that any image has. */
export const WRITES = ['write', 'write', 'write', 'write -z', 'write -z -u', 'discard'] as const;

/** Writes, zeroes and discards here and there; what was done. A command that the image refuses changes nothing. */
export function wear(random: Random, { path, driver, bytes, commands = WRITES }: Worn): string[] {
  const told = Array.from({ length: random.integer(1, 30) }, () => oneCommand(random, commands, bytes));
  return runIo(path, driver, told) ? told : [`${told.join('; ')} (not all of it)`];
}

function oneCommand(random: Random, commands: readonly string[], bytes: number): string {
  const command = random.pick(commands);
  const pattern = command === 'write' || command === 'write -c' ? ` -P ${random.integer(1, 255)}` : '';
  const unit = random.pick([512, 512, 4096, 65_536]);
  const length = unit * random.integer(1, 40);
  const at = Math.floor((random.integer(0, 1023) / 1024) * Math.max(0, bytes - length)) || 0;
  // a compressed write is one of whole clusters
  const aligned = command === 'write -c' ? 2 ** 21 : unit;
  const offset = Math.floor(at / aligned) * aligned;
  return `${command}${pattern} ${offset} ${command === 'write -c' ? 65_536 : length}`;
}

/** Runs commands of `qemu-io` on an image; false where one failed. */
export function runIo(path: string, driver: string, commands: readonly string[]): boolean {
  const each = commands.flatMap((command) => ['-c', command]);
  try {
    execFileSync('qemu-io', ['-f', driver, '-d', 'unmap', ...each, path], { stdio: 'pipe', timeout: 60_000 });
    return true;
  } catch {
    return false;
  }
}
