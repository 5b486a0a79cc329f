import { createHash } from 'node:crypto';
import { permanentFailure } from '../../../failures.js';

/** Tables that were fetched by range, until the stream, which alone is verified, has shown the same ones. */
export interface HeldTables {
  /** Takes the L2 table that is cluster `index` of the file. */
  hold(index: number, table: Buffer): void;
  /** Compares a cluster of the stream, if an L2 table is there. @throws {@link FailureType} `ChecksumMismatch` */
  compare(index: number, cluster: Buffer): void;
  /** Compares the L1 table of the stream. @throws {@link FailureType} `ChecksumMismatch` */
  compareL1(offsets: Float64Array): void;
  /** The stream has ended. @throws {@link FailureType} `ChecksumMismatch` where it had fewer tables */
  finish(): void;
}

/** Holds tables to the stream by their digests: 32 bytes for each. `l1` are the offsets that were fetched. */
export function createHeldTables(l1: Float64Array): HeldTables {
  const l2 = new Map<number, Buffer>();
  let l1Seen = l1.length === 0;
  return {
    hold: (index, table) => void l2.set(index, digestOf(table)),
    compare(index, cluster) {
      const held = l2.get(index);
      if (!held) return;
      if (!digestOf(cluster).equals(held)) throw mismatch(`L2 table in cluster ${index}`);
      l2.delete(index);
    },
    compareL1(offsets) {
      if (offsets.length !== l1.length || offsets.some((offset, index) => offset !== l1[index]))
        throw mismatch('L1 table');
      l1Seen = true;
    },
    finish() {
      if (!l1Seen) throw mismatch('L1 table');
      if (l2.size > 0) throw mismatch(`${l2.size} L2 tables`);
    },
  };
}

const digestOf = (table: Buffer): Buffer => createHash('sha256').update(table).digest();

function mismatch(what: string): Error {
  return permanentFailure(
    'ChecksumMismatch',
    `checksum mismatch: what was served by range as the ${what} of the qcow2 is not in the file that was verified`,
  );
}
