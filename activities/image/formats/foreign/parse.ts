import type { ImageSource, SourceFacts } from '../../source/types.js';
import { createImageBytes, type ImageBytes } from './image-bytes.js';
import type { ForeignFormat, ForeignImage } from './types.js';
import { parseVdi } from './vdi.js';
import { parseDynamicVhd } from './vhd.js';
import { parseVhdx } from './vhdx.js';
import { parseVmdk } from './vmdk.js';

const PARSERS: Readonly<Record<ForeignFormat, (bytes: ImageBytes) => Promise<ForeignImage>>> = {
  vmdk: parseVmdk,
  vdi: parseVdi,
  vhd: parseDynamicVhd,
  vhdx: parseVhdx,
};

/**
 * Checks the headers of an image whose magic number is known, before `qemu-img` sees a byte of it. Reads at most a few tables,
 * from the head where they lie there; where the head is not enough and the source has no ranges, `ScratchSpaceRequired` says
 * what cannot be reached. Lies that the head shows are refused before that.
 * @throws {@link FailureType} `ImageHostile`, `ImageInvalid`, `UnsupportedFormat`, `ScratchSpaceRequired`
 */
export function parseForeign(
  format: ForeignFormat,
  source: ImageSource,
  facts: SourceFacts,
): Promise<ForeignImage> {
  return PARSERS[format](createImageBytes(source, facts));
}
