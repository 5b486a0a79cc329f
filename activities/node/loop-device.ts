/** Loop devices of this machine, by util-linux' `losetup`. */
import { constants } from 'node:fs';
import { open, readlink, type FileHandle } from 'node:fs/promises';
import { transientFailure } from '../failures.js';
import { blockDeviceSize, numberOf } from '../image/block-device.js';
import { readTool, runTool, ToolError } from '../image/tools.js';

/** A loop device over a file. */
export interface LoopDevice {
  /** `/dev/loop7`; another one after a reboot. */
  readonly device: string;
  /** Reads and writes go past the page cache of the file. */
  readonly directIo: boolean;
}

/** What `losetup --list --json` says of a device, as far as it is asked. */
interface Listed {
  readonly name: string;
  readonly 'back-ino': number | string;
  readonly 'back-maj:min': string;
  readonly 'back-file': string;
  readonly dio: boolean | string;
  readonly ro: boolean | string;
  readonly offset: number | string;
  readonly sizelimit: number | string;
}

/** Columns of {@link Listed}. */
const COLUMNS = 'NAME,BACK-INO,BACK-MAJ:MIN,BACK-FILE,DIO,RO,OFFSET,SIZELIMIT';

/** Devices over exactly this open file, whole and writable, by name. @throws {@link FailureType} retried: `NodeUnavailable` */
export async function findLoopDevices(file: FileHandle): Promise<readonly LoopDevice[]> {
  const { ino, dev } = await file.stat({ bigint: true });
  const path = await readlink(`/proc/self/fd/${file.fd}`);
  const listed = await losetup(['--list', '--json', '--output', COLUMNS]);
  // without any device it prints nothing at all
  const { loopdevices } = JSON.parse(listed || '{"loopdevices":[]}') as { loopdevices: readonly Listed[] };
  return loopdevices
    .filter(
      (found) =>
        String(found['back-ino']) === `${ino}` &&
        // some file systems show each subvolume under a number of its own
        (found['back-maj:min'].trim() === numberOf(dev) || found['back-file'] === path),
    )
    .filter(({ ro, offset, sizelimit }) => !isSet(ro) && Number(offset) === 0 && Number(sizelimit) === 0)
    .map(({ name, dio }) => ({ device: name, directIo: isSet(dio) }));
}

/** The device over this file: the one that is there, or a new one with direct I/O where the file system can. */
export async function attachLoopDevice(file: FileHandle): Promise<LoopDevice> {
  const [found] = await findLoopDevices(file);
  if (found) return found;
  await losetup(['--find', '--direct-io=on', '/proc/self/fd/3'], file).catch(async (error: unknown) => {
    if (!(error instanceof Error && error.cause instanceof ToolError)) throw error;
    // a file system that cannot may have refused all of it
    if ((await findLoopDevices(file)).length === 0) await losetup(['--find', '/proc/self/fd/3'], file);
  });
  const [made] = await findLoopDevices(file);
  if (made) return made;
  throw transientFailure('NodeUnavailable', 'a loop device was made and is gone');
}

/** Bytes of a device, as the kernel says it. */
export async function loopDeviceBytes({ device }: LoopDevice): Promise<number> {
  await using opened = await open(device, constants.O_RDONLY);
  return blockDeviceSize(opened.fd);
}

/** Detaches a device; one that somebody still has open goes when that is closed. */
export async function detachLoopDevice({ device }: LoopDevice): Promise<void> {
  await losetup(['--detach', device]).catch(async (error: unknown) => {
    // ENXIO: it was detached meanwhile
    if (!(error instanceof Error && /No such device/.test(error.message))) throw error;
  });
}

async function losetup(args: readonly string[], file?: FileHandle): Promise<string> {
  try {
    if (!file) return await readTool('losetup', args);
    await runTool('losetup', args, { fds: [file.fd] });
    return '';
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw transientFailure('NodeUnavailable', `loop devices cannot be used here: ${reason}`, {
      cause: error,
    });
  }
}

function isSet(value: boolean | string): boolean {
  return value === true || value === '1' || value === 'true';
}
