/**
 * Wakes clones that wait for their source: until it is there, complete, and no pod writes to it. It is looked at again and again,
 * since no watch tells which pods use a claim; and only for those that wait.
 */
import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from '@temporalio/common';
import { cloneSourceOf, sourceRefOf } from '../../activities/kubernetes/clone-names.js';
import { MARKS } from '../../activities/kubernetes/names.js';
import type { DataVolume, DataVolumeCondition } from '../../activities/kubernetes/objects.js';
import { ApplicationFailure } from '../../activities/failures.js';
import type { CloneControlActivities } from '../../activities/types/clone.js';
import type { DataVolumeWatch } from './data-volumes.js';
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

/** Sources looked at a round, over all clones that wait: with more of them each is looked at less often. */
const MOST_A_ROUND = 40;

type Find = CloneControlActivities['findCloneOrigin'];

/** What is looked with. */
export interface CloneSourceOptions {
  readonly watch: Pick<DataVolumeWatch, 'served' | 'wake'>;
  /** Begins a round: what is found with it is asked for once. */
  readonly lookAround: () => Find;
  readonly logger: Pick<Logger, 'debug'>;
}

/** Starts to look, until stopped. */
export function watchCloneSources({ watch, lookAround, logger }: CloneSourceOptions): {
  stop(): Promise<void>;
} {
  const stopping = new AbortController();
  let next = 0;

  async function round(): Promise<void> {
    const waiting = watch.served().map(({ dataVolume }) => dataVolume);
    const groups = groupsOf(waiting.filter((dataVolume) => saidBy(dataVolume) !== undefined));
    if (next >= groups.length) next = 0;
    const due = groups.slice(next, next + MOST_A_ROUND);
    next += due.length;
    const find = lookAround();
    await Promise.all(due.map(async (group) => await look(find, group)));
  }

  /** All of a group wait for one source, and said the same of it when they looked themselves. */
  async function look(find: Find, group: Group): Promise<void> {
    const [first] = group;
    const found = pinnedBy(first);
    const news = await find({ dataVolume: refOf(first), ...(found ? { found } : {}) }).catch(
      (error: unknown) => {
        logger.debug('the source of a clone cannot be looked at', { ...refOf(first), error });
        // what is wrong with it is the run's own to say; Kubernetes that is away is none's
        return error instanceof ApplicationFailure && error.nonRetryable ? 'wrong' : 'unknown';
      },
    );
    if (news === 'unknown') return;
    const { reason, message } = news === 'wrong' ? {} : (news.waiting ?? {});
    const said = saidBy(first);
    if (said?.reason === reason && said?.message === message) return;
    for (const dataVolume of group) watch.wake(keyOf(dataVolume));
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

type Group = [DataVolume, ...DataVolume[]];

/**
 * Clones by what they wait for and what they said of it, so that each is looked at once. One source may be another thing to each: where
 * a DataSource leads to the claim that one of its clones is to make, that one finds no source, and the others a claim.
 */
function groupsOf(clones: readonly DataVolume[]): readonly Group[] {
  const groups = new Map<string, Group>();
  for (const dataVolume of clones) {
    const source = pinnedBy(dataVolume) ?? ['reference', sourceRefOf(dataVolume)];
    const { reason, message } = saidBy(dataVolume) ?? {};
    const key = JSON.stringify([source, reason, message]);
    const group = groups.get(key);
    if (group) group.push(dataVolume);
    else groups.set(key, [dataVolume]);
  }
  return [...groups.values()];
}

/** The claim that a clone waits for, whatever a DataSource names by now; none where it is a DataSource that does not lead to one yet. */
function pinnedBy(dataVolume: DataVolume): { namespace: string; name: string } | undefined {
  const { status, metadata } = dataVolume;
  const [namespace, name] = metadata.annotations?.[MARKS.cloneSource]?.split('/') ?? [];
  // the mark of an earlier run says nothing about one that has not found its source
  if (namespace && name && status?.phase === 'CloneScheduled') return { namespace, name };
  const source = cloneSourceOf(dataVolume);
  return source?.kind === 'pvc' ? { namespace: source.namespace, name: source.name } : undefined;
}

/** What a clone waits for in its own words, if it is its source. */
function saidBy({ status }: DataVolume): DataVolumeCondition | undefined {
  const running = status?.conditions?.find(({ type }) => type === 'Running');
  return WAITING.has(running?.reason) ? running : undefined;
}
