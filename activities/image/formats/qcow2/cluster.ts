import type { ApplicationFailure } from '@temporalio/common';
import type { DecodeOutcome } from '../../decode/cluster-decoder.js';
import { hostile, invalid } from '../../refusals.js';

/** The failure for a compressed cluster that does not decode to exactly one cluster. */
export function refuseCluster(
  outcome: Exclude<DecodeOutcome, 'ok'>,
  guest: number,
  clusterSize: number,
): ApplicationFailure {
  const cluster = `qcow2 compressed cluster of guest offset ${guest}`;
  switch (outcome) {
    case 'overflow':
      return hostile(`${cluster} expands beyond its ${clusterSize} bytes`);
    case 'short':
      return invalid(`${cluster} holds fewer than its ${clusterSize} bytes`);
    case 'damaged':
      return invalid(`${cluster} is damaged`);
  }
}
