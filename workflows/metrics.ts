/**
 * What workflows count and measure. Values leave the sandbox by a sink of our own: Temporal's `metricMeter` puts labels of its
 * own choosing beside ours. A replay counts nothing.
 */
import { isCancellation, proxySinks, TemporalFailure, workflowInfo, type Sinks } from '@temporalio/workflow';
import type { Run } from './run-state.js';
import { WORKFLOW_TYPES } from './workflow-types.js';

/** Metrics of workflows; meaning, type and labels of each: `workers/metrics/catalogue.ts`. */
export type WorkflowMetric =
  | 'dvflow_workflow_failures_total'
  | 'dvflow_phase_seconds'
  | 'dvflow_cleanup_deferred_total'
  | 'dvflow_leaked_objects_found_total'
  | 'dvflow_leaked_objects_removed_total'
  | 'dvflow_sweep_silent_nodes'
  | 'dvflow_sweep_end_timestamp_seconds';

/** Labels of a metric, each with few values: never a name that users choose. */
export type MetricLabels = Readonly<Record<string, string>>;

/** Where a worker takes the values from. */
export interface MetricSinks extends Sinks {
  dvflowMetrics: { record(metric: WorkflowMetric, value: number, labels: MetricLabels): void };
}

const { dvflowMetrics } = proxySinks<MetricSinks>();

/** Adds to a counter, sets a gauge or records in a histogram, as the metric's type says. */
export function recordMetric(metric: WorkflowMetric, value: number, labels: MetricLabels = {}): void {
  if (!workflowInfo().unsafe.isReplaying) dvflowMetrics.record(metric, value, labels);
}

/** Counts the end of a run by the type of its failure; an error that only fails a workflow task is no end. */
export function countFailure(error: unknown, typeOf: (error: unknown) => string): void {
  if (!(error instanceof TemporalFailure) && !isCancellation(error)) return;
  const { workflowType: workflow_type } = workflowInfo();
  // what somebody has typed wrongly is none of ours
  if (!WORKFLOW_TYPES.some((type) => type === workflow_type)) return;
  recordMetric('dvflow_workflow_failures_total', 1, { workflow_type, type: typeOf(error) });
}

/** Records how long the phase lasted that a run leaves now; before its first one it has none. */
export function leavePhase(run: Run): void {
  const { phase } = run.status;
  const now = Date.now();
  if (phase !== '') recordMetric('dvflow_phase_seconds', (now - run.phaseAt) / 1000, { phase });
  run.phaseAt = now;
}
