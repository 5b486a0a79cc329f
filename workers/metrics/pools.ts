import type { Logger } from '@temporalio/common';
import { examinePool } from '../../activities/node/examine.js';
import type { PoolContext } from '../../activities/node/pool-memory.js';
import type { PoolRef } from '../../activities/types.js';
import type { PoolReport } from '../../activities/types/operators.js';
import type { ActivityObserver } from './activities.js';
import type { MetricName, Metrics } from './index.js';

/** Figures of pools are so old at most, in ms. */
const EVERY_MS = 15_000;

/** What an activity's input may tell about pools: one, or all that any HostPathProvisioner names. */
interface Heard {
  readonly pool?: unknown;
  readonly pools?: unknown;
  /** Paths of those of them that this node is to have; absent: all. */
  readonly judged?: unknown;
  readonly foreignBytes?: number;
}

const FIGURES = [
  'dvflow_pool_usable',
  'dvflow_pool_capacity_bytes',
  'dvflow_pool_room_bytes',
  'dvflow_pool_promised_bytes',
  'dvflow_pool_promises',
  'dvflow_pool_shared_with_os',
] as const satisfies readonly MetricName[];

/** Keeps the figures of the pools that this node has heard of. */
export interface PoolMetrics extends ActivityObserver {
  /** Looks at every known pool now. */
  refresh(): Promise<void>;
  stop(): void;
}

/** Where pools are looked at, and who is told of those that cannot be used. */
export interface PoolMetricsOptions extends PoolContext {
  readonly logger?: Pick<Logger, 'info' | 'warn'> | undefined;
}

interface Known {
  readonly pool: PoolRef;
  readonly foreignBytes: number;
}

/**
 * A node worker may not read HostPathProvisioners: it learns its pools from what it is asked to do, the sweeper's question of
 * every ten minutes at the latest. That question names all of them: the figures of a pool that is no longer there become NaN, which no
 * alert takes for anything, since a series cannot be taken back.
 */
export function poolMetrics(metrics: Metrics, { logger, ...context }: PoolMetricsOptions): PoolMetrics {
  const { node } = context;
  const known = new Map<string, Known>();
  const unusable = new Set<string>();
  const timer = setInterval(() => void refresh(), EVERY_MS);
  timer.unref();

  /** Each by itself: one that does not answer keeps no figure of another one. */
  async function refresh(): Promise<void> {
    await Promise.all([...known.values()].map(look));
  }

  async function look({ pool, foreignBytes }: Known): Promise<void> {
    const report = await examinePool(pool, { ...context, foreignBytes });
    // forgotten meanwhile
    if (!known.has(pool.path)) return;
    show(metrics, node, report);
    say(report);
  }

  /** Once, not at every look. */
  function say({ path, state, message }: PoolReport): void {
    if (state === 'usable') {
      if (unusable.delete(path)) logger?.info('pool can be used again', { pool: path });
    } else if (!unusable.has(path)) {
      unusable.add(path);
      logger?.warn('pool cannot be used', { pool: path, state, message });
    }
  }

  function learn(input: Heard): void {
    const judged = Array.isArray(input.judged) ? (input.judged as unknown[]) : undefined;
    const all = Array.isArray(input.pools)
      ? input.pools.filter(isPool).filter(({ path }) => judged?.includes(path) ?? true)
      : undefined;
    for (const pool of all ?? [input.pool].filter(isPool)) {
      const before = known.get(pool.path);
      const foreignBytes = input.foreignBytes ?? before?.foreignBytes ?? 0;
      // a preparation knows of a pool but where it is
      known.set(pool.path, { pool: { ...before?.pool, ...pool }, foreignBytes });
    }
    if (all) forgetAllBut(new Set(all.map(({ path }) => path)));
  }

  function forgetAllBut(named: ReadonlySet<string>): void {
    for (const path of [...known.keys()].filter((one) => !named.has(one))) {
      known.delete(path);
      unusable.delete(path);
      for (const name of FIGURES) metrics.record(name, NaN, { node, pool: path });
    }
  }

  return {
    begin(_type, [input]) {
      const before = known.size;
      learn(input ?? {});
      if (known.size > before) void refresh();
      return undefined;
    },
    refresh,
    stop: () => clearInterval(timer),
  };
}

function isPool(value: unknown): value is PoolRef {
  return typeof (value as Partial<PoolRef> | undefined)?.path === 'string';
}

function show(metrics: Metrics, node: string, report: PoolReport): void {
  const figures: Record<(typeof FIGURES)[number], number | undefined> = {
    dvflow_pool_usable: report.state === 'usable' ? 1 : 0,
    dvflow_pool_capacity_bytes: report.totalBytes,
    dvflow_pool_room_bytes: report.roomBytes,
    dvflow_pool_promised_bytes: report.promisedBytes,
    dvflow_pool_promises: report.promises,
    dvflow_pool_shared_with_os: report.sharedWithOs === undefined ? undefined : Number(report.sharedWithOs),
  };
  // What cannot be read now is not what it was.
  for (const name of FIGURES) metrics.record(name, figures[name] ?? NaN, { node, pool: report.path });
}
