import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { once } from 'node:events';
import { finished } from 'node:stream/promises';

const HOLD = 'mount "$@" && echo mounted && read _';

/** A mount that nobody else sees. */
export interface HeldMount extends AsyncDisposable {
  /** The mount point, as other processes reach it. */
  readonly path: string;
}

/**
 * Mounts as `mount` is told by `args`, the last of which is the mount point, in a mount namespace that goes with the mount. One
 * of this process would not be gone with `umount`: every namespace that another process makes meanwhile (sandboxes, containers,
 * other tests) has a copy of the mount and keeps its device busy.
 */
export async function holdMount(...args: readonly string[]): Promise<HeldMount> {
  return await hold(args);
}

/**
 * A file system that answers nothing, as one whose server is away: whoever asks it waits until the mount goes, and gets an error then.
 * Needs root.
 */
export async function holdHungMount(path: string): Promise<HeldMount> {
  const device = openSync('/dev/fuse', 'r+');
  const options = 'fd=3,rootmode=40000,user_id=0,group_id=0';
  const mount = await hold(['-i', '-t', 'fuse', '-o', options, 'hung', path], device);
  let open = true;
  return {
    path: mount.path,
    async [Symbol.asyncDispose]() {
      // the last one that has it open ends it for all who wait
      if (open) closeSync(device);
      open = false;
      await mount[Symbol.asyncDispose]();
    },
  };
}

async function hold(args: readonly string[], ...descriptors: readonly number[]): Promise<HeldMount> {
  // root of another user namespace may mount what has no device only
  const user = process.getuid?.() === 0 ? [] : ['--map-root-user'];
  const holder = spawn('unshare', [...user, '--mount', 'sh', '-c', HOLD, 'mount', ...args], {
    stdio: ['pipe', 'pipe', 'inherit', ...descriptors],
  });
  const exit = once(holder, 'exit');
  const stdout = holder.stdout!;
  const ready = await Promise.race([once(stdout, 'data'), finished(stdout.resume())]);
  if (!ready) throw new Error(`mount ${args.join(' ')} has failed`);
  return {
    path: `/proc/${holder.pid}/root${args.at(-1)}`,
    async [Symbol.asyncDispose]() {
      holder.kill('SIGKILL');
      await exit;
    },
  };
}
