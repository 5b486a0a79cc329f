import { converted, copied, piped, WAYS, type Way } from './ways.js';

/** A way to read an image that its reader is killed on. */
export interface KilledWay extends Way {
  /** It goes on where it was: behind ranges, without a compressor that must be read from its start. */
  readonly exact?: boolean;
  /** The source is verified by all of its bytes. */
  readonly verified?: boolean;
  /** A compressor that can be entered where a member or frame of it begins. */
  readonly entered?: boolean;
}

/** Compresses pieces of 8 MiB one by one: members of gz, frames of zst. */
const inPieces = (tool: string): Way['make'] => piped(`split -b 8M --filter='${tool}' -`);

const IN_ZIP: Way = {
  make: (raw, image) => {
    copied(raw, `${image}.raw`);
    piped(`cat >/dev/null; zip -q -1 -j - '${image}.raw'`)(raw, image);
  },
  source: {},
  plan: /^a raw disk is copied .*inside zip/,
};

/** All of {@link WAYS}, and what else there is to a chain besides its plan. */
export const KILLED_WAYS: Readonly<Record<string, KilledWay>> = {
  ...Object.fromEntries(
    Object.entries(WAYS).map(([name, way]) => [name, { ...way, exact: / by ranges$|blocks$/u.test(name) }]),
  ),
  'qcow2 in xz': {
    make: piped('xz -0 -T2', converted('qcow2')),
    source: {},
    plan: /^qcow2 is decoded in one pass, inside xz/,
  },
  'qcow2 with a checksum': {
    make: converted('qcow2'),
    source: {},
    plan: /^qcow2 is decoded in one pass, because its checksum/,
    verified: true,
  },
  'raw with a checksum': {
    make: copied,
    source: {},
    plan: /^a raw disk is copied straight through, because its checksum/,
    verified: true,
    exact: true,
  },
  'raw in gz of several members': {
    make: inPieces('gzip -1'),
    source: {},
    plan: /^a raw disk is copied .*inside gz/,
    entered: true,
  },
  'raw in zst of several frames': {
    make: inPieces('zstd -q -1'),
    source: {},
    plan: /^a raw disk is copied .*inside zst/,
    entered: true,
  },
  'raw in zip': IN_ZIP,
  'raw in zip as a stream': { ...IN_ZIP, source: { ranges: false } },
};
