import { hostile, invalid, unsupported } from '../refusals.js';
import { shownName } from '../../shown-name.js';
import { isBesideImage } from './beside-image.js';
import type { TarEntry } from './tar-reader.js';

/** Entries that an archive around one disk image may have, directories included. */
const MAX_ENTRIES = 1000;

/** Finds the disk image among the entries of an archive, offered in order. */
export interface ImageChoice {
  /** Whether this entry is the image. @throws {@link FailureType} `UnsupportedFormat`, `ImageHostile` */
  offer(entry: TarEntry): boolean;
  /** No more entries come. @throws {@link FailureType} `ImageInvalid` where none was the image */
  finish(): void;
}

/**
 * An archive around a disk image holds exactly one regular file with content. What counts for nothing: directories, empty
 * files, and the `._name` files that macOS packs beside each file. Links, devices and names with `..` are refused.
 */
export function createImageChoice(): ImageChoice {
  let count = 0;
  let image: string | undefined;

  return {
    offer(entry) {
      count += 1;
      if (count > MAX_ENTRIES)
        throw unsupported(
          `tar archive has more than ${MAX_ENTRIES} entries: only one disk image is expected`,
        );
      const name = shownName(entry.name);
      refuseTricks(entry, name);
      if (entry.type === 'directory' || isBesideImage(entry)) return false;
      if (image !== undefined)
        throw unsupported(`tar archive holds more than one file: ${image} and ${name}`);
      image = name;
      return true;
    },
    finish() {
      if (image !== undefined) return;
      throw invalid(`tar archive holds no disk image: none of its ${count} entries is a file with content`);
    },
  };
}

function refuseTricks({ name, type, typeflag, linkName }: TarEntry, shown: string): void {
  if (name.split('/').includes('..')) throw hostile(`tar entry ${shown} leads out of the archive by '..'`);
  if (type === 'symlink' || type === 'hardlink')
    throw hostile(`tar entry ${shown} is a ${type} to ${shownName(linkName)}, not a file`);
  if (type === 'character' || type === 'block') throw hostile(`tar entry ${shown} is a ${type} device`);
  if (type === 'fifo') throw hostile(`tar entry ${shown} is a FIFO`);
  if (type === 'other') throw unsupported(`tar entry ${shown} is of type ${shownName(typeflag)}`);
}
