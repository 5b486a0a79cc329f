/**
 * Wakes clones that wait for their source: until it is there, complete, and no pod writes to it. It is looked at again and again,
 * since no watch tells which pods use a claim; and only for those that wait.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from '@temporalio/common';
import type { CloneControlActivities } from '../../activities/types/clone.js';
import type { DataVolumeWatch, ServedDataVolume } from './data-volumes.js';
import { refOf } from './lifecycles.js';
import { keyOf } from './list-watch.js';

/** Reasons of condition `Running` of those who wait for their source. */
const WAITING: ReadonlySet<string | undefined> = new Set([
  'CloneWithoutSource',
  'ImportPVCNotReady',
  'CloneSourceInUse',
]);

/** Between two looks at the same source, in ms. */
const ROUND_MS = 2_000;

/** Looks a round, over all clones that wait: with more of them each is looked at less often. */
const MOST_A_ROUND = 40;

/** What is looked with. */
export interface CloneSourceOptions {
  readonly watch: Pick<DataVolumeWatch, 'served' | 'wake'>;
  readonly find: CloneControlActivities['findCloneOrigin'];
  readonly logger: Pick<Logger, 'debug'>;
}

/** Starts to look, until stopped. */
export function watchCloneSources({ watch, find, logger }: CloneSourceOptions): { stop(): Promise<void> } {
  const stopping = new AbortController();
  let next = 0;

  async function round(): Promise<void> {
    const waiting = watch.served().filter(({ dataVolume }) => reasonOf(dataVolume) !== undefined);
    if (next >= waiting.length) next = 0;
    const due = waiting.slice(next, next + MOST_A_ROUND);
    next += due.length;
    await Promise.all(due.map(look));
  }

  async function look({ dataVolume }: ServedDataVolume): Promise<void> {
    const ref = refOf(dataVolume);
    try {
      const found = await find({ dataVolume: ref });
      if (found.waiting?.reason === reasonOf(dataVolume)) return;
    } catch (error) {
      // what is wrong is the run's own to say
      logger.debug('the source of a clone cannot be looked at', { ...ref, error });
    }
    watch.wake(keyOf(dataVolume));
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      await round();
      await pause(ROUND_MS, undefined, { signal: stopping.signal }).catch(() => undefined);
    }
  }

  const running = run();
  return {
    async stop() {
      stopping.abort();
      await running;
    },
  };
}

/** What a clone waits for, if it is its source. */
function reasonOf({ status }: ServedDataVolume['dataVolume']): string | undefined {
  const running = status?.conditions?.find(({ type }) => type === 'Running');
  return WAITING.has(running?.reason) ? running?.reason : undefined;
}
