import { examinePool } from '../../activities/node/examine.js';
import type { PoolRef } from '../../activities/types.js';
import type { PoolReport } from '../../activities/types/operators.js';
import type { ActivityObserver } from './activities.js';
import type { Metrics } from './index.js';

/** Figures of pools are so old at most, in ms. */
const EVERY_MS = 15_000;

/** Keeps the figures of the pools that this node has heard of. */
export interface PoolMetrics extends ActivityObserver {
  /** Looks at every known pool now. */
  refresh(): Promise<void>;
  stop(): void;
}

/**
 * A node worker may not read HostPathProvisioners: it learns its pools from what it is asked to do, the sweeper's question of
 * every ten minutes at the latest.
 */
export function poolMetrics(metrics: Metrics, node: string): PoolMetrics {
  const known = new Map<string, { pool: PoolRef; foreignBytes: number }>();
  const timer = setInterval(() => void refresh(), EVERY_MS);
  timer.unref();

  async function refresh(): Promise<void> {
    for (const { pool, foreignBytes } of known.values())
      show(metrics, node, await examinePool(pool, node, foreignBytes));
  }

  return {
    begin(_type, [input]) {
      const { pool, pools, foreignBytes } = (input ?? {}) as {
        pool?: unknown;
        pools?: unknown;
        foreignBytes?: number;
      };
      const before = known.size;
      const more: readonly unknown[] = Array.isArray(pools) ? pools : [];
      for (const one of [pool, ...more].filter(isPool)) {
        const told = foreignBytes ?? known.get(one.path)?.foreignBytes ?? 0;
        known.set(one.path, { pool: one, foreignBytes: told });
      }
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
  const labels = { node, pool: report.path };
  metrics.record('dvflow_pool_usable', report.state === 'usable' ? 1 : 0, labels);
  const figures = {
    dvflow_pool_capacity_bytes: report.totalBytes,
    dvflow_pool_room_bytes: report.roomBytes,
    dvflow_pool_promised_bytes: report.promisedBytes,
    dvflow_pool_promises: report.promises,
    dvflow_pool_shared_with_os: report.sharedWithOs === undefined ? undefined : Number(report.sharedWithOs),
  } as const;
  for (const [name, value] of Object.entries(figures)) {
    if (value !== undefined) metrics.record(name as keyof typeof figures, value, labels);
  }
}
