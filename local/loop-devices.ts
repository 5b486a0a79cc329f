import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { join, sep } from 'node:path';
import { layout } from './paths.js';
import type { Log } from './types.js';

/** Directory of a node worker's links to its loop devices, below its state. */
export const DEVICES = 'devices';

/** Removes the links: until the worker makes them again, another volume's device may bear the number that they name. */
export function unlinkDevices(directory: string): void {
  const { volumes, nodes } = layout(directory);
  for (const states of [volumes, nodes].filter((path) => existsSync(path)))
    for (const node of readdirSync(states))
      rmSync(join(states, node, DEVICES), { recursive: true, force: true });
}

/** Detaches the loop devices over files of a stack; the next start of its node worker makes them again. */
export function detachLoopDevices(directory: string, log: Log): void {
  unlinkDevices(directory);
  for (const [device, file] of loopDevices()) {
    if (!file.startsWith(`${realpathSync(directory)}${sep}`)) continue;
    try {
      execFileSync('losetup', ['--detach', device], { stdio: 'pipe' });
      log(`detached ${device}`);
    } catch (error) {
      log(`${device} over ${file} stays: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}

/** Every loop device in use and the file behind it. */
function loopDevices(): readonly (readonly [device: string, file: string])[] {
  return readdirSync('/sys/block')
    .filter((name) => name.startsWith('loop'))
    .flatMap((name) => {
      try {
        const file = readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').trim();
        return [[`/dev/${name}`, file] as const];
      } catch {
        return []; // not in use
      }
    });
}
