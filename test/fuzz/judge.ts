import { existsSync, statSync } from 'node:fs';
import type { FuzzCase } from './cases.js';
import type { FuzzEnd } from './job.js';
import { compareDisk, compareTree, type OracleVerdict } from './oracle.js';
import { trespassIn } from './room.js';
import { isToleratedRefusal } from './tolerated.js';
import type { Ran } from './worker-handle.js';

/** An answer must be there by then. In seconds. */
export const LIMIT_SECONDS = 10;
/**
 * Resident memory of the process that converts, at its peak. The process itself with its loader has about 150 MiB and what
 * earlier cases have left to be collected; the engine adds 64 MiB of segments, 64 MiB of a cluster map and 96 MiB of xz blocks
 * at most (`design.md` §7.5, §7.6). What grows with an image goes beyond that soon.
 */
export const MEMORY_BYTES = 512 * 1024 * 1024;

/** What came of a case. */
export interface Verdict {
  /** In a few words, for counting. */
  readonly outcome: string;
  /** What is wrong; absent: nothing. */
  readonly finding?: string;
}

const wrong = (outcome: string, detail: string): Verdict => ({ outcome, finding: `${outcome}: ${detail}` });

/** Judges how a case ended: by what it did to the process and to what is around the target, then by what others read. */
export function judge(one: FuzzCase, ran: Ran, since: Date): Verdict {
  if (ran.kind === 'hung')
    return wrong(
      'hang',
      `no answer in ${ran.seconds.toFixed(1)} s, of which ${ran.cpuSeconds.toFixed(1)} s computing`,
    );
  if (ran.kind === 'crashed') return wrong('crash', ran.how);
  const { end, outside } = ran.answer;
  if (outside.length > 0) return wrong('read outside of the source', outside.slice(0, 5).join('; '));
  if (ran.peakBytes > MEMORY_BYTES)
    return wrong('memory', `${Math.round(ran.peakBytes / 2 ** 20)} MiB resident`);
  const trespass = trespassIn(one.job);
  if (trespass !== undefined) return wrong('write outside of the target', trespass);
  if (end.kind === 'untyped') return wrong('untyped failure', end.message);
  return end.kind === 'refused' ? judgeRefusal(one, end) : judgeDone(one, end, since);
}

function judgeRefusal(one: FuzzCase, { type, message }: Extract<FuzzEnd, { kind: 'refused' }>): Verdict {
  const outcome = `refused, ${type}`;
  if (type === 'ChecksumMismatch') {
    const { target } = one.job;
    const emptied = one.job.contentType === 'archive' || !existsSync(target) || statSync(target).size === 0;
    if (!one.wrongChecksum) return wrong('checksum', `a right one is refused: ${message}`);
    return emptied ? { outcome } : wrong('checksum', 'the target was not emptied');
  }
  if (one.mutated || isDue(one, type)) return { outcome };
  return wrong('valid image refused', `${type}: ${message}`);
}

/** Refusals of valid images that the design wants. */
function isDue({ job, driver }: FuzzCase, type: string): boolean {
  // layouts that cannot be streamed, and the formats of qemu-img, need room for a copy
  if (type === 'ScratchSpaceRequired')
    return job.scratch === undefined && driver !== 'raw' && driver !== 'tar';
  // a second reading that fails early has no ranges to lose, a disk larger than its target does not fit
  return type === 'LargerPVCRequired' && job.usableBytes !== undefined;
}

function judgeDone(one: FuzzCase, end: Extract<FuzzEnd, { kind: 'done' }>, since: Date): Verdict {
  if (one.wrongChecksum) return wrong('checksum', 'a wrong one is accepted');
  const archive = one.job.contentType === 'archive';
  const verdict: OracleVerdict = archive ? compareTree(one, since) : compareDisk(one, end);
  if (verdict.kind === 'equal') return { outcome: 'equal' };
  if (verdict.kind === 'different') return wrong('different', verdict.how);
  const outcome = `read, ${verdict.kind === 'refuses' ? 'the oracle refuses' : 'undecided'}`;
  if (verdict.kind === 'undecided') return { outcome };
  return one.mutated && isToleratedRefusal(verdict.why)
    ? { outcome }
    : wrong('read what the oracle refuses', verdict.why);
}
