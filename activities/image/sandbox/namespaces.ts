import { tmpdir } from 'node:os';

/** The uid and gid of nobody, on every Linux (`overflowuid`). */
const NOBODY = '65534';

/** What a program needs to be loaded; everything else of the file system is left outside. */
const SYSTEM_FOLDERS = '/usr /bin /sbin /lib /lib32 /lib64';

/**
 * Run by `sh` as root of new namespaces: makes a root of an empty file system with nothing but the system's folders in it, read
 * only, lets go of the old one, and becomes the program that gives up the privileges. `umount` looks into /proc for what it is
 * to unmount: the link to the old one goes with it. The last step, into a folder of the new root, is there because the kernel
 * lets nobody with a changed root make a user namespace, in which it would be root again. What a distribution does not have
 * (`ld.so.cache`), or a kernel does not let be made read only, is no hole: the program owns none of it.
 */
const ENTER = `
set -e
for place in "$1" /tmp /mnt /var; do
  if mount -t tmpfs -o size=64k,mode=755,nosuid,nodev sandbox "$place" 2>/dev/null; then found=1; break; fi
done
test -n "$found"
cd "$place"
mkdir root
for folder in ${SYSTEM_FOLDERS}; do
  test -e "$folder" || continue
  ln -s "root$folder" ".$folder"
  if test -L "$folder"; then ln -s "$(readlink "$folder")" "root$folder"; continue; fi
  mkdir "root$folder"
  mount --rbind -o ro,nosuid,nodev "$folder" "root$folder" 2>/dev/null || mount --rbind "$folder" "root$folder"
done
if test -e /etc/ld.so.cache; then
  mkdir root/etc
  : > root/etc/ld.so.cache
  mount --bind /etc/ld.so.cache root/etc/ld.so.cache
fi
mkdir old
ln -s old/proc proc
pivot_root . old
cd /
umount -l /old
mount -o remount,ro /
shift
exec chroot /root "$@"`;

/** Taken away from the program before it starts. */
const NO_PRIVILEGES = ['--bounding-set=-all', '--inh-caps=-all', '--no-new-privs'];
const AS_NOBODY = ['--reuid', NOBODY, '--regid', NOBODY, '--clear-groups'];
const NAMESPACES = ['--net', '--mount', '--pid', '--ipc', '--uts', '--fork', '--kill-child'];
const AS_ROOT_INSIDE = ['--user', '--map-root-user'];

/**
 * Command lines that run a program without network, files, other processes and privileges, the best first; which one works is
 * up to the kernel's settings and our own rights. A user namespace is what everybody can make, unless they are forbidden; where
 * they are, root can do without. As nobody where we are root ourselves: then not even what is root's own is the program's.
 */
export function namespaceCommands(uid: number): (readonly string[])[] {
  const enter = (privileges: readonly string[]): string[] => [
    'sh',
    '-c',
    ENTER,
    'sandbox',
    tmpdir(),
    'setpriv',
    ...privileges,
    '--',
  ];
  const anybody = ['unshare', ...AS_ROOT_INSIDE, ...NAMESPACES, '--', ...enter(NO_PRIVILEGES)];
  if (uid !== 0) return [anybody];
  return [
    ['setpriv', ...AS_NOBODY, '--', ...anybody],
    ['unshare', ...NAMESPACES, '--', ...enter([...AS_NOBODY, ...NO_PRIVILEGES])],
  ];
}
