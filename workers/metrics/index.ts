import type { MetricMeter } from '@temporalio/common';
import type { InjectedSinks } from '@temporalio/worker';
import { FAILURE_TYPES } from '../../activities/failures.js';
import type { UnpublishedItem } from '../../activities/types.js';
import type { MetricLabels, MetricSinks } from '../../workflows/metrics.js';
import { WORKFLOW_TYPES } from '../../workflows/workflow-types.js';
import { ownVersion } from '../version.js';
import { METRICS, type MetricDefinition, type MetricName } from './catalogue.js';

/** The metrics of one process. */
export interface Metrics {
  /** Adds to a counter, sets a gauge or records in a histogram, as the metric's type says. */
  record(metric: MetricName, value: number, labels?: MetricLabels): void;
}

/** Keeps each metric of the catalogue on Temporal's meter, so that one port serves them and the SDK's own. */
export function createMetrics(meter: MetricMeter): Metrics {
  const made = new Map<MetricName, (value: number, labels: MetricLabels) => void>();
  return {
    record(metric, value, labels = {}) {
      const known = made.get(metric) ?? make(meter, metric);
      made.set(metric, known);
      known(value, labels);
    },
  };
}

function make(meter: MetricMeter, name: MetricName): (value: number, labels: MetricLabels) => void {
  const { type, help }: MetricDefinition = METRICS[name];
  switch (type) {
    case 'counter': {
      // The exporter puts the suffix on.
      const counter = meter.createCounter(name.replace(/_total$/, ''), undefined, help);
      return (value, labels) => counter.add(Math.round(value), labels);
    }
    case 'gauge': {
      const gauge = meter.createGauge(name, 'float', undefined, help);
      return (value, labels) => gauge.set(value, labels);
    }
    case 'histogram': {
      const histogram = meter.createHistogram(name, 'float', undefined, help);
      return (value, labels) => histogram.record(Math.max(0, value), labels);
    }
  }
}

/** Where workflows put what they count. */
export function metricSinks(metrics: Metrics): InjectedSinks<MetricSinks> {
  return {
    dvflowMetrics: {
      record: {
        fn: (_info, metric, value, labels) => metrics.record(metric, value, labels),
        callDuringReplay: false,
      },
    },
  };
}

const LEAKED_KINDS = ['PersistentVolumeClaim', 'PersistentVolume', 'Secret', 'Directory'] as const;

/**
 * Says what runs, and shows the counters of this role at 0: Prometheus does not see the first increase of a series that was not
 * there before.
 */
export function startMetrics(metrics: Metrics, role: 'control' | 'node' | 'gateway'): void {
  metrics.record('dvflow_build_info', 1, {
    role,
    version: ownVersion(),
    node_version: process.versions.node,
  });
  if (role === 'gateway') {
    metrics.record('dvflow_upload_received_bytes_total', 0);
    for (const code of ['2xx', '4xx', '5xx']) metrics.record('dvflow_upload_answers_total', 0, { code });
    return;
  }
  const queues = role === 'control' ? ['control'] : ['node', 'transfer'];
  for (const type of Object.keys(FAILURE_TYPES)) {
    for (const queue of queues) metrics.record('dvflow_activity_failures_total', 0, { queue, type });
    if (role !== 'control') continue;
    // every one of them can fail
    for (const workflow_type of WORKFLOW_TYPES)
      metrics.record('dvflow_workflow_failures_total', 0, { workflow_type, type });
  }
  if (role !== 'control') return;
  metrics.record('dvflow_cleanup_deferred_total', 0);
  for (const kind of LEAKED_KINDS satisfies readonly UnpublishedItem['kind'][]) {
    metrics.record('dvflow_leaked_objects_found_total', 0, { kind });
    metrics.record('dvflow_leaked_objects_removed_total', 0, { kind });
  }
}

export type { MetricLabels, MetricName };
