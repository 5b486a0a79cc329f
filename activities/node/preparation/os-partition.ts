/** Whether a directory shares its partition with the operating system, whose end it then can be (`vm-disks-docs.md` 14). */
import { readFile, realpath } from 'node:fs/promises';

/** One line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)). */
export interface Mount {
  /** `<major>:<minor>`, one for a whole file system, whatever part of it is mounted. */
  readonly device: string;
  readonly point: string;
}

/**
 * What belongs to the operating system. A container's own `/` is none of them, but `/etc/hosts` in it is a file of the kubelet's
 * directory on the node.
 */
const SYSTEM = ['/', '/usr', '/var', '/etc/hosts'];

/** Reads the mounts of this process. */
export async function readMounts(file = '/proc/self/mountinfo'): Promise<readonly Mount[]> {
  return parseMounts(await readFile(file, 'utf8'));
}

/** The mounts in a mountinfo, in its order: a later one hides an earlier one of the same point. */
export function parseMounts(text: string): readonly Mount[] {
  return text
    .split('\n')
    .map((line) => line.split(' '))
    .filter((fields) => fields.length > 4)
    .map(([, , device = '', , point = '']) => ({ device, point: unescaped(point) }));
}

/** Space, tab, newline and backslash are written as octal numbers. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** The mount that a path without links lies in. */
export function mountOf(path: string, mounts: readonly Mount[]): Mount | undefined {
  return mounts
    .filter(({ point }) => path === point || point === '/' || path.startsWith(`${point}/`))
    .reduce<Mount | undefined>(
      (best, mount) => (best && best.point.length > mount.point.length ? best : mount),
      undefined,
    );
}

/** The path of the operating system that an existing directory shares its partition with, or `undefined`. */
export async function sharedSystemPath(
  path: string,
  system: readonly string[] = SYSTEM,
): Promise<string | undefined> {
  const mounts = await readMounts();
  const deviceOf = async (at: string): Promise<string | undefined> =>
    mountOf(await realpath(at).catch(() => at), mounts)?.device;
  const own = await deviceOf(path);
  for (const at of system) if (own !== undefined && (await deviceOf(at)) === own) return at;
  return undefined;
}
