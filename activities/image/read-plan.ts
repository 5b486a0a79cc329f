import type { ImageFacts } from '../types.js';
import type { Qcow2Header } from './formats/qcow2/header.js';
import type { OpenedImage } from './open-image.js';

/** File bytes that a one-pass reader holds back until the table that maps them comes by (measured need: up to 2.5 MiB, with 2 MiB clusters 8 MiB). */
export const LOOK_AHEAD_BYTES = 16 * 1024 * 1024;
/** What a one-pass reader may spend on the map from file to disk, at 8 bytes a cluster. */
const MAP_LIMIT = 64 * 1024 * 1024;
const MAP_ENTRY_BYTES = 8;

/** Nothing but its length says that a raw disk is whole; formats and compressors have an end of their own. */
const END_UNPROVED =
  'the server tells no length: a raw disk that is cut short looks whole, and only a checksum can tell';

/** How an image is read. */
export type ReadPlan = Pick<ImageFacts, 'plan' | 'resume' | 'scratch' | 'unproved' | 'reason'>;

/** What the plan depends on besides the image. */
export interface PlanInput {
  /** The source is verified by all of its bytes, in order. */
  readonly verified: boolean;
  /** Tables can be fetched by range although the image is read in order. */
  readonly tablesByRange: boolean;
}

/** Chooses the plan; one that needs scratch space says why, and whoever has none refuses it. */
export function planRead(image: OpenedImage, input: PlanInput): ReadPlan {
  if (image.format === 'tar')
    return {
      plan: 'unpack',
      resume: 'restart',
      reason: 'an archive is unpacked as it comes; no scratch space is needed',
    };
  if (image.qcow2) return planQcow2(image, image.qcow2, input);
  if (image.unreached !== undefined || (image.foreign && image.foreign.rawLength === undefined))
    return planForeign(image, input);
  return planRaw(image, input);
}

function planQcow2(image: OpenedImage, header: Qcow2Header, input: PlanInput): ReadPlan {
  if (isRanged(image))
    return {
      plan: 'ranged',
      resume: 'exact',
      reason: 'qcow2 is read in guest order by ranges; no scratch space is needed',
    };
  const scratch = whyNotStreamable(header, input.tablesByRange || hasRanges(image));
  if (scratch !== undefined)
    return {
      plan: 'ranged',
      resume: 'reread',
      scratch,
      reason: `qcow2 is kept in scratch space and read in guest order from there: ${scratch}`,
    };
  return {
    plan: 'one-pass',
    resume: 'reread',
    reason: `qcow2 is decoded in one pass, ${whyInOrder(image, input)}; no scratch space is needed`,
  };
}

function planForeign(image: OpenedImage, input: PlanInput): ReadPlan {
  const name = image.format.toUpperCase();
  if (hasRanges(image)) {
    const then = image.facts.provedInOrder ? ', then it is read once more in order for its CRC-32' : '';
    return {
      plan: 'qemu-img',
      resume: 'exact',
      reason: `${name} is decoded by qemu-img, which reads it by ranges${then}; no scratch space is needed`,
    };
  }
  const scratch = `qemu-img reads a ${name} in no order of its own, ${whyInOrder(image, input)}`;
  return {
    plan: 'qemu-img',
    resume: 'reread',
    scratch,
    reason: `${name} is kept in scratch space and decoded by qemu-img from there: ${scratch}`,
  };
}

function planRaw(image: OpenedImage, input: PlanInput): ReadPlan {
  const none = 'no scratch space is needed';
  if (isRanged(image))
    return { plan: 'ranged', resume: 'exact', reason: `a raw disk is read by ranges; ${none}` };
  if (image.facts.seekable)
    return {
      plan: 'one-pass',
      resume: 'exact',
      reason: `a raw disk is copied straight through, ${whyInOrder(image, input)}; it can be entered in the middle; ${none}`,
    };
  const unproved =
    image.facts.endUnproved && !input.verified && image.containers.length === 0
      ? { unproved: END_UNPROVED }
      : {};
  return {
    plan: 'one-pass',
    resume: 'reread',
    ...unproved,
    reason: `a raw disk is copied straight through, ${whyInOrder(image, input)}; after a failure the source is read again; ${none}`,
  };
}

/** Without a length no offset can be checked, and no exact range asked for. */
function hasRanges({ facts }: OpenedImage): boolean {
  return facts.ranges && facts.validators.length !== undefined;
}

function isRanged(image: OpenedImage): boolean {
  return hasRanges(image) && !image.facts.provedInOrder;
}

function whyInOrder({ containers, facts }: OpenedImage, { verified }: PlanInput): string {
  if (verified) return 'because its checksum needs every byte in order';
  if (facts.provedInOrder) return `because its CRC-32 in the ${containers.at(-1)} needs every byte in order`;
  if (containers.length > 0) return `inside ${containers.toReversed().join(' in ')}`;
  return 'because the source has no ranges';
}

/** One pass works where tables come before, or shortly after, what they map. With ranges they are fetched first, whatever the layout. */
function whyNotStreamable(header: Qcow2Header, tablesByRange: boolean): string | undefined {
  const clusters = Math.ceil(header.virtualSize / header.clusterSize);
  if (clusters * MAP_ENTRY_BYTES > MAP_LIMIT)
    return `its cluster map has ${clusters * MAP_ENTRY_BYTES} bytes, ${MAP_LIMIT} is the limit for one pass`;
  if (tablesByRange || isStreamable(header)) return undefined;
  if (header.snapshots > 0)
    return `the qcow2 has ${header.snapshots} internal snapshots and cannot be read by ranges`;
  return `the qcow2 L1 table is at ${header.l1Offset}, beyond the ${LOOK_AHEAD_BYTES} bytes of look-ahead, and it cannot be read by ranges`;
}

/** Whether the header promises that tables come early enough for a look-ahead. */
export function isStreamable(header: Qcow2Header): boolean {
  return header.snapshots === 0 && header.l1Offset <= LOOK_AHEAD_BYTES;
}
