/** What tells a target from another one that its path leads to later: names, numbers and sizes are used again. */
import { fstatSync, readFileSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { deviceNumber } from '../block-device.js';

/** Counts every attaching of a disk, from 1 at each boot (Linux 5.15, `Documentation/ABI/stable/sysfs-block`). */
const SEQUENCE = ['diskseq', '../diskseq'] as const;
const BOOT = '/proc/sys/kernel/random/boot_id';
/** UUID of a logical volume, with that of its group; other mappings have none, or one that is made of their name. */
const LOGICAL_VOLUME = /^LVM-\w{64}/u;
/** Their sequence stays what it was when something else is put behind them. */
const EXCHANGED_UNSEEN = /^(?:nbd|zram|drbd)\d/u;

/** The identity of an open file; `undefined` where its file system does not say when it was made, and inodes are used again. */
export function fileIdentity(fd: number): string | undefined {
  const { ino, birthtimeNs } = fstatSync(fd, { bigint: true });
  return birthtimeNs > 0n ? `file ${ino} of ${birthtimeNs}` : undefined;
}

/**
 * The identity of an open block device: a logical volume keeps its own; any other device has one until it is detached, or until
 * the machine is started again. `undefined` where the kernel does not tell.
 */
export function deviceIdentity(fd: number): string | undefined {
  const number = deviceNumber(fd);
  const attribute = (name: string): string | undefined => read(`/sys/dev/block/${number}/${name}`);
  const uuid = attribute('dm/uuid');
  if (uuid !== undefined && LOGICAL_VOLUME.test(uuid)) return `device ${uuid}`;
  if (EXCHANGED_UNSEEN.test(basename(readlinkSync(`/sys/dev/block/${number}`)))) return undefined;
  const sequence = SEQUENCE.map(attribute).find((found) => found !== undefined);
  const boot = read(BOOT);
  if (sequence === undefined || boot === undefined) return undefined;
  // a partition may be made anew elsewhere on its disk
  return `device ${number} from ${attribute('start') ?? 0}, attached as ${sequence} since boot ${boot}`;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim() || undefined;
  } catch {
    return undefined;
  }
}
