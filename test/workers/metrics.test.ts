import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ApplicationFailure, ApplicationFailureCategory, CancelledFailure } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { FAILURE_TYPES, permanentFailure } from '../../activities/failures.js';
import { movedBy } from '../../activities/image/transfer.js';
import type { ImageFacts } from '../../activities/types.js';
import { activityMetrics } from '../../workers/metrics/activities.js';
import { METRICS, type MetricDefinition } from '../../workers/metrics/catalogue.js';
import { startMetrics, type MetricLabels, type Metrics } from '../../workers/metrics/index.js';
import { byteMetrics, transferMetrics } from '../../workers/metrics/transfers.js';
import { WORKFLOW_TYPES } from '../../workflows/workflow-types.js';
import { projectPath, readDocument, tableRows } from '../docs/documents.js';

/** What was recorded, newest value by name and labels; counters are summed. */
function createRecorder(): Metrics & { values: Map<string, number> } {
  const values = new Map<string, number>();
  return {
    values,
    record(metric, value, labels: MetricLabels = {}) {
      const key = [metric, ...Object.values(labels)].join(' ');
      const before = METRICS[metric].type === 'gauge' ? 0 : (values.get(key) ?? 0);
      values.set(key, before + value);
    },
  };
}

describe('catalogue of metrics', () => {
  const entries = Object.entries<MetricDefinition>(METRICS);

  it('is the table of docs/operations.md', () => {
    const documented = tableRows(readDocument('docs/operations.md'), 'Metric').map((row) =>
      row.map((cell) => cell.replaceAll('`', '')),
    );
    assert.deepEqual(
      documented,
      entries.map(([name, { type, roles, labels, help }]) => [
        name,
        type,
        roles.join(', '),
        labels.join(', '),
        help,
      ]),
    );
  });

  it('names each metric as Prometheus would have it', () => {
    for (const [name, { type, buckets, labels }] of entries) {
      assert.match(name, /^dvflow_[a-z][a-z_]*$/);
      assert.equal(name.endsWith('_total'), type === 'counter', name);
      assert.equal(buckets !== undefined, type === 'histogram', name);
      for (const label of labels) assert.match(label, /^[a-z][a-z_]*$/);
      assert.doesNotMatch(labels.join(), /namespace|name$|uid|url/);
    }
  });

  it('holds exactly the metrics that the code records', () => {
    const used = new Set<string>();
    for (const folder of ['workflows', 'workers']) {
      for (const file of readdirSync(projectPath(folder), { recursive: true, encoding: 'utf8' })) {
        if (!file.endsWith('.ts') || file.endsWith('catalogue.ts')) continue;
        const text = readFileSync(join(projectPath(folder), file), 'utf8').replace(/^\s*\|.*$/gm, '');
        for (const [, name = ''] of text.matchAll(/\b(dvflow_[a-z_]+)\b/g)) used.add(name);
      }
    }
    assert.deepEqual([...used].sort(), Object.keys(METRICS).sort());
  });
});

describe('counters of a control worker that has just started', () => {
  it('stand at 0 for the failures of every type of workflow: the first one is then seen to come', async () => {
    const metrics = createRecorder();
    startMetrics(metrics, 'control');
    for (const workflow of WORKFLOW_TYPES)
      for (const type of Object.keys(FAILURE_TYPES))
        assert.equal(metrics.values.get(`dvflow_workflow_failures_total ${workflow} ${type}`), 0, workflow);
  });
});

describe('metrics of activities', () => {
  /** Runs one activity behind the interceptor, scheduled two seconds ago; resolves with the transfers under way meanwhile. */
  async function run(
    metrics: ReturnType<typeof createRecorder>,
    fail?: unknown,
    activityType = 'transferImage',
  ): Promise<number | undefined> {
    let active: number | undefined;
    const environment = new MockActivityEnvironment(
      { activityType, currentAttemptScheduledTimestampMs: Date.now() - 2_000 },
      {
        interceptors: [activityMetrics(metrics, 'transfer', transferMetrics(metrics, 2))],
        logger: new DefaultLogger('ERROR'),
      },
    );
    const work = async (): Promise<void> => {
      active = metrics.values.get('dvflow_active_transfers');
      if (fail) throw fail as Error;
    };
    await environment.run(work).catch(() => undefined);
    return active;
  }

  it('measure the wait, and count transfers under way', async () => {
    const metrics = createRecorder();
    assert.equal(await run(metrics), 1);
    assert.ok((metrics.values.get('dvflow_queue_wait_seconds transfer') ?? 0) >= 2);
    assert.equal(metrics.values.get('dvflow_active_transfers'), 0);
    assert.equal(metrics.values.get('dvflow_transfer_slots'), 2);
    assert.ok(metrics.values.has('dvflow_transfer_seconds completed'));
  });

  it('count a preallocated disk in its slot, and not among the transfers of images', async () => {
    const metrics = createRecorder();
    assert.equal(await run(metrics, undefined, 'createBlankDisk'), 1);
    assert.equal(metrics.values.get('dvflow_active_transfers'), 0);
    assert.ok(!metrics.values.has('dvflow_transfer_seconds completed'));
  });

  it('count failures by type; neither cancellations nor expected misses', async () => {
    const metrics = createRecorder();
    await run(metrics, permanentFailure('ImageHostile', 'no'));
    await run(metrics, new Error('something'));
    await run(metrics, new CancelledFailure('stop'));
    await run(
      metrics,
      ApplicationFailure.create({ message: 'not yet', category: ApplicationFailureCategory.BENIGN }),
    );
    const failures = [...metrics.values].filter(([key]) => key.startsWith('dvflow_activity_failures_total'));
    assert.deepEqual(failures, [
      ['dvflow_activity_failures_total transfer ImageHostile', 1],
      ['dvflow_activity_failures_total transfer Error', 1],
    ]);
    assert.ok(metrics.values.has('dvflow_transfer_seconds cancelled'));
  });
});

describe('bytes of a transfer', () => {
  const image = { plan: 'ranged' } as ImageFacts;

  it('are those of this attempt, whatever earlier ones moved', () => {
    const metrics = createRecorder();
    const moved = byteMetrics(metrics)(image, { bytesRead: 1_000, bytesWritten: 500 });
    moved({ bytesRead: 1_100, bytesWritten: 500 });
    moved({ bytesRead: 1_600, bytesWritten: 900 });
    assert.equal(metrics.values.get('dvflow_transfer_read_bytes_total ranged'), 600);
    assert.equal(metrics.values.get('dvflow_transfer_written_bytes_total ranged'), 400);
  });

  it('are those of a device that is made zero as well, while nothing is known of what earlier attempts wrote', () => {
    const metrics = createRecorder();
    const before = { bytesRead: 1_000, bytesWritten: 500 };
    const moved = byteMetrics(metrics)(image, before);
    const progress = { bytesRead: 1_000, bytesWritten: 0, rate: 0, attempt: 2, barren: 0 } as const;
    for (const bytesZeroed of [0, 300, 700])
      moved(movedBy({ ...progress, phase: 'starting', bytesZeroed }, before));
    moved(movedBy({ ...progress, phase: 'transferring', bytesWritten: 540, bytesZeroed: 800 }, before));
    moved({ bytesRead: 1_000, bytesWritten: 540 });
    assert.equal(metrics.values.get('dvflow_transfer_written_bytes_total zeros'), 800);
    assert.equal(metrics.values.get('dvflow_transfer_written_bytes_total ranged'), 40);
  });

  it('count again from zero for a source that changed', () => {
    const metrics = createRecorder();
    const moved = byteMetrics(metrics)(image, { bytesRead: 1_000, bytesWritten: 500 });
    moved({ bytesRead: 1_010, bytesWritten: 0 });
    moved({ bytesRead: 1_050, bytesWritten: 40 });
    assert.equal(metrics.values.get('dvflow_transfer_read_bytes_total ranged'), 50);
    assert.equal(metrics.values.get('dvflow_transfer_written_bytes_total ranged'), 40);
  });
});
