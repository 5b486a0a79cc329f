import { spawn } from 'node:child_process';
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
  // root of another user namespace may mount what has no device only
  const user = process.getuid?.() === 0 ? [] : ['--map-root-user'];
  const holder = spawn('unshare', [...user, '--mount', 'sh', '-c', HOLD, 'mount', ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exit = once(holder, 'exit');
  const ready = await Promise.race([once(holder.stdout, 'data'), finished(holder.stdout.resume())]);
  if (!ready) throw new Error(`mount ${args.join(' ')} has failed`);
  return {
    path: `/proc/${holder.pid}/root${args.at(-1)}`,
    async [Symbol.asyncDispose]() {
      holder.kill('SIGKILL');
      await exit;
    },
  };
}
