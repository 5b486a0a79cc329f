import type { ImageFacts } from '../types.js';
import type { Qcow2Header } from './formats/qcow2/header.js';
import type { Layers } from './probe.js';
import { scratchRequired } from './refusals.js';
import type { SourceFacts } from './source/types.js';

/** File bytes that a one-pass reader holds back until the table that maps them comes by (measured need: up to 2.5 MiB, with 2 MiB clusters 8 MiB). */
export const LOOK_AHEAD_BYTES = 16 * 1024 * 1024;
/** What a one-pass reader may spend on the map from file to disk, at 8 bytes a cluster. */
const MAP_LIMIT = 64 * 1024 * 1024;
const MAP_ENTRY_BYTES = 8;

type ReadPlan = Pick<ImageFacts, 'plan' | 'resume' | 'reason'>;

/** Chooses between guest order by range and one pass over the stream. @throws {@link FailureType} `ScratchSpaceRequired` */
export function planRead(layers: Layers, { ranges, validators }: SourceFacts, checksum: boolean): ReadPlan {
  const plain = layers.compression.length === 0;
  // without a length no offset can be checked, and no exact range asked for
  const ranged = plain && ranges && validators.length !== undefined;
  if (!layers.qcow2) return planRaw(plain && ranges, layers);
  if (ranged && !checksum)
    return {
      plan: 'ranged',
      resume: 'exact',
      reason: 'qcow2 is read in guest order by ranges; no scratch space is needed',
    };
  assertStreamable(layers.qcow2, ranged);
  const why = !plain
    ? `inside ${layers.compression.join(' in ')}`
    : checksum
      ? 'because its checksum needs every byte in order'
      : 'from a server without ranges';
  return {
    plan: 'one-pass',
    resume: 'reread',
    reason: `qcow2 is decoded in one pass, ${why}; no scratch space is needed`,
  };
}

function planRaw(exact: boolean, { compression }: Layers): ReadPlan {
  if (exact)
    return {
      plan: 'one-pass',
      resume: 'exact',
      reason: 'a raw disk is copied straight through; it resumes by range',
    };
  const why =
    compression.length > 0
      ? `${compression.join(' in ')} can only be read from its start`
      : 'the server has no ranges';
  return {
    plan: 'one-pass',
    resume: 'reread',
    reason: `a raw disk is copied straight through; after a failure the source is read again: ${why}`,
  };
}

/** One pass works where tables come before, or shortly after, what they map. With ranges they are fetched first, whatever the layout. */
function assertStreamable(header: Qcow2Header, ranged: boolean): void {
  const clusters = Math.ceil(header.virtualSize / header.clusterSize);
  if (clusters * MAP_ENTRY_BYTES > MAP_LIMIT)
    throw scratchRequired(
      `its cluster map has ${clusters * MAP_ENTRY_BYTES} bytes, ${MAP_LIMIT} is the limit for one pass`,
    );
  if (ranged || isStreamable(header)) return;
  if (header.snapshots > 0)
    throw scratchRequired(
      `the qcow2 has ${header.snapshots} internal snapshots and the source cannot be read by ranges`,
    );
  throw scratchRequired(
    `the qcow2 L1 table is at ${header.l1Offset}, beyond the ${LOOK_AHEAD_BYTES} bytes of look-ahead, and the source cannot be read by ranges`,
  );
}

/** Whether the header promises that tables come early enough for a look-ahead. */
export function isStreamable(header: Qcow2Header): boolean {
  return header.snapshots === 0 && header.l1Offset <= LOOK_AHEAD_BYTES;
}
