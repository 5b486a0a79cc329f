import { hostile, invalid, unsupported } from '../../refusals.js';

/** Images of one file; every other type has its data, or a part of it, elsewhere. */
const ONE_FILE = ['monolithicSparse', 'streamOptimized'] as const;
/** Types of images (VMware, "Virtual Disk Format 5.0", "The Descriptor File"): a message shows none that is not here. */
const OTHER_TYPES = [
  'monolithicFlat',
  'twoGbMaxExtentSparse',
  'twoGbMaxExtentFlat',
  'fullDevice',
  'partitionedDevice',
  'vmfs',
  'vmfsSparse',
  'vmfsRaw',
  'vmfsRDM',
  'vmfsThin',
  'vmfsEagerZeroedThick',
  'vmfsPassthroughRawDeviceMap',
  'seSparse',
  'custom',
];
const EXTENT = /^[ \t]*(?:RW|RDONLY|NOACCESS)[ \t]+\d+[ \t]+([A-Za-z]+)/gm;
/** Kinds of extents whose bytes are a file of their own. */
const FLAT_EXTENTS = ['FLAT', 'VMFS', 'VMFSRDM', 'VMFSRAW'];
/** Parent of an image that has none. */
const NO_PARENT = 'ffffffff';
const FLATTEN = 'make it one file with qemu-img convert -O qcow2';

/**
 * Checks the text that describes an image in a sparse file, and tells the image's type. QEMU looks for words in it without
 * regard to lines, and so does this.
 * @throws {@link FailureType} `ImageHostile` where it names other files, `ImageInvalid`
 */
export function checkDescriptor(text: string): (typeof ONE_FILE)[number] {
  if (text.includes('parentFileNameHint'))
    throw hostile(`VMDK has a parent file (parentFileNameHint): part of its data is there; ${FLATTEN}`);
  const parent = /parentCID[ \t]*=[ \t]*([0-9a-f]{1,8})/i.exec(text)?.[1];
  if (parent === undefined) throw invalid('VMDK descriptor has no parentCID');
  if (parent.toLowerCase() !== NO_PARENT)
    throw hostile(
      `VMDK has a parent (parentCID is not ${NO_PARENT}): part of its data is in another file; ${FLATTEN}`,
    );
  const found = /createType[ \t]*=[ \t]*"([^"\n]*)"/.exec(text)?.[1];
  const type = ONE_FILE.find((name) => name === found);
  if (!type) throw refuseType(found);
  const extents = extentsOf(text);
  if (extents.length !== 1 || extents[0] !== 'SPARSE') throw refuseExtents(extents);
  return type;
}

/** Why a descriptor that is a file of its own cannot be read: its data is never in it. */
export function refuseDescriptorFile(text: string): Error {
  return refuseExtents(extentsOf(text));
}

function refuseType(type: string | undefined): Error {
  if (type === undefined) return invalid('VMDK descriptor has no createType');
  if (!OTHER_TYPES.includes(type))
    return unsupported(`VMDK createType is unknown: ${ONE_FILE.join(' and ')} are supported`);
  return hostile(`VMDK extents: an image of type ${type} has its data in another file; ${FLATTEN}`);
}

function refuseExtents(types: readonly string[]): Error {
  if (types.some((type) => FLAT_EXTENTS.includes(type)))
    return hostile(
      `VMDK extents: the descriptor names flat extents: its data is in another file; ${FLATTEN}`,
    );
  return hostile(
    `VMDK extents: the descriptor names ${types.length} extents in files of their own, ` +
      `only a file that is its own one sparse extent is read; ${FLATTEN}`,
  );
}

function extentsOf(text: string): string[] {
  return Array.from(text.matchAll(EXTENT), ([, type = '']) => type.toUpperCase());
}
