/** kill -9 of a process of the stack under a transfer, and what it may cost. */
import assert from 'node:assert/strict';
import { killProcess, restartProcess, type ProcessName, type StackInfo } from '../../local/index.js';
import type { DataVolume } from './world.js';

/**
 * Temporal may be away for so long, in ms, before a transfer is rightly given to another attempt: of the 10 s without a heartbeat after
 * which it is lost (`workflows/activity-options.ts`) two are over at most, and the worker, which asks ever more seldom, notices the end
 * of an outage after it has taken nearly as long again.
 */
const FORGIVEN_MS = 4_000;

/** How many further attempts a transfer may take. */
export interface Restarts {
  readonly least: number;
  readonly most: number;
}

/** Kills a process and starts it again. Resolves with what that costs the transfers that are under way. */
export async function killAndRestart(info: StackInfo, victim: ProcessName): Promise<Restarts> {
  const began = Date.now();
  killProcess(info, victim, 'SIGKILL');
  await restartProcess(info, victim);
  const outageMs = Date.now() - began;
  // only the node worker moves bytes: the death of nobody else costs any, unless Temporal has to believe that it died
  if (victim === 'worker-node') return { least: 1, most: 1 };
  const lost = victim === 'temporal' && outageMs > FORGIVEN_MS;
  if (lost) console.log(`        Temporal was away for ${outageMs} ms: a transfer may be begun again`);
  return { least: 0, most: lost ? 1 : 0 };
}

/** Asserts that a DataVolume tells of as many restarts. */
export function assertRestarts({ status }: DataVolume, { least, most }: Restarts): void {
  const restarts = status?.restartCount ?? 0;
  assert.ok(restarts >= least && restarts <= most, `${restarts} restarts, not ${least} to ${most}`);
}
