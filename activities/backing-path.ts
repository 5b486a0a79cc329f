/** Which paths may be the backing directory of a pool: judged in a specification as text, on a node as what the text really names. */
import { isAbsolute, normalize } from 'node:path';

/** Below these lies the operating system, or what others keep there: another label is the end of the node or of them. */
const SYSTEM_TREES: readonly string[] = [
  ...['/bin', '/boot', '/dev', '/etc', '/lib', '/lib32', '/lib64', '/proc', '/run', '/sbin', '/sys', '/usr'],
  ...[
    '/sysroot',
    '/ostree',
    '/opt/cni',
    '/var/opt/cni',
    '/var/log',
    '/var/run',
    '/var/lock',
    '/var/usrlocal',
  ],
  ...[
    'cni',
    'containerd',
    'containers',
    'crio',
    'docker',
    'dpkg',
    'dvflow',
    'etcd',
    'kubelet',
    'rpm',
    'selinux',
  ].map((name) => `/var/lib/${name}`),
  ...['NetworkManager', 'chrony', 'dbus', 'misc', 'nfs', 'private', 'sss', 'systemd'].map(
    (name) => `/var/lib/${name}`,
  ),
];

/** Directories that hold those of others: one below them may be a pool, they themselves may not. */
const SHARED_DIRECTORIES: readonly string[] = [
  ...['cache', 'home', 'lib', 'local', 'mail', 'mnt', 'opt', 'roothome', 'spool', 'srv', 'tmp'].map(
    (name) => `/var/${name}`,
  ),
];

/** What lies at the top of a home directory, or below a name that only a person's login reads, is that person's. */
const HOME = /^(\/var)?\/home\/[^/]+$/;
const SECRETS = /\/\.(ssh|gnupg|kube)(\/|$)/;

/** Why a path is no backing directory, or `undefined`. */
export function refusalOf(path: string): string | undefined {
  const says = (why: string): string => `backing directory ${JSON.stringify(path)} ${why}`;
  // a unit file and a rule of SELinux have one line each
  if (/[\u0000-\u001f\u007f]/.test(path)) return says('has a control character in its name');
  // semanage takes no path with one, and the rules that it writes are divided by them
  if (/\s/u.test(path)) return says('has white space in its name, which no rule of SELinux can name');
  if (!isAbsolute(path)) return says('is no absolute path');
  if (normalize(path) !== path) return says('is not written out: leave out ., .., and repeated slashes');
  if (path === '/' || path.lastIndexOf('/') === 0) {
    return says(
      'lies in the root directory /, which is read-only on RHCOS: name one below it, /var/hpvolumes',
    );
  }
  const why = refusalOfPlace(path);
  return why === undefined ? undefined : says(why);
}

/**
 * Why what a path without links names on a node is no place for a pool, as the end of a sentence about it, or `undefined`. A mount
 * point in the root directory is one: a link to it is as good as a mount elsewhere.
 */
export function refusalOfPlace(path: string): string | undefined {
  if (path === '/') return 'is the root directory / itself: name one of its own, /var/hpvolumes';
  const tree = SYSTEM_TREES.find((system) => path === system || path.startsWith(`${system}/`));
  if (tree) return `belongs to the operating system (${tree}): name one of its own, /var/hpvolumes`;
  if (['/var', '/home', '/opt', '/root', ...SHARED_DIRECTORIES].includes(path))
    return `holds more than volumes: name a directory below it, ${path}/hpvolumes`;
  if (HOME.test(path)) return `is somebody's home directory: name one of its own, /var/hpvolumes`;
  if (SECRETS.test(path)) return `holds what a person logs in with: name one of its own, /var/hpvolumes`;
  return undefined;
}
