import type { WorkflowMetric } from '../../workflows/metrics.js';

/** What a metric of dvflow is; `docs/operations.md` has the same table, and a test keeps the two equal. */
export interface MetricDefinition {
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** Workers that serve it. */
  readonly roles: readonly ('control' | 'node' | 'gateway')[];
  /** Each with few values: never a name that users choose. */
  readonly labels: readonly string[];
  readonly help: string;
  /** Upper bounds of a histogram. */
  readonly buckets?: readonly number[];
}

const MINUTE = 60;
const HOUR = 60 * MINUTE;

/** From a phase that is left at once to a disk of terabytes over a slow line. */
const LONG = [1, 5, 15, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR, 12 * HOUR, 24 * HOUR];
/** From a worker that idles to one whose slots are taken for hours. */
const WAITS = [0.05, 0.25, 1, 5, 15, MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR];

const both = ['control', 'node'] as const;

const ofWorkflows = {
  dvflow_workflow_failures_total: {
    type: 'counter',
    roles: ['control'],
    labels: ['workflow_type', 'type'],
    help: 'Runs that failed, by the type of the failure (docs/failures.md; Cancelled: by a person)',
  },
  dvflow_phase_seconds: {
    type: 'histogram',
    roles: ['control'],
    labels: ['phase'],
    help: 'Time that DataVolumes spent in a phase, recorded when they leave it',
    buckets: LONG,
  },
  dvflow_cleanup_deferred_total: {
    type: 'counter',
    roles: ['control'],
    labels: [],
    help: 'Steps of clean-up that could not be done and were left to the sweeper',
  },
  dvflow_leaked_objects_found_total: {
    type: 'counter',
    roles: ['control'],
    labels: ['kind'],
    help: 'Unpublished objects without an owner that the sweeper found',
  },
  dvflow_leaked_objects_removed_total: {
    type: 'counter',
    roles: ['control'],
    labels: ['kind'],
    help: 'Unpublished objects without an owner that the sweeper removed',
  },
  dvflow_sweep_silent_nodes: {
    type: 'gauge',
    roles: ['control'],
    labels: [],
    help: 'Nodes whose worker did not answer the last sweep',
  },
  dvflow_sweep_end_timestamp_seconds: {
    type: 'gauge',
    roles: ['control'],
    labels: [],
    help: 'When the last sweep ended, in seconds since the epoch',
  },
} as const satisfies Record<WorkflowMetric, MetricDefinition>;

/** Every metric of dvflow's own, by the name under which Prometheus knows it. */
export const METRICS = {
  dvflow_build_info: {
    type: 'gauge',
    roles: ['control', 'node', 'gateway'],
    labels: ['role', 'version', 'node_version'],
    help: 'Always 1; the labels tell what runs',
  },
  ...ofWorkflows,
  dvflow_data_volumes: {
    type: 'gauge',
    roles: ['control'],
    labels: ['phase'],
    help: 'DataVolumes whose run is under way, by phase',
  },
  dvflow_progress_round_seconds: {
    type: 'gauge',
    roles: ['control'],
    labels: [],
    help: 'Time from one look at every transfer to the next; above a second, progress is shown less often',
  },
  dvflow_storage_profile_incomplete: {
    type: 'gauge',
    roles: ['control'],
    labels: ['storageclass', 'provisioner'],
    help: '1 where nothing is known of what claims of a StorageClass may ask for, else 0',
  },
  dvflow_queue_wait_seconds: {
    type: 'histogram',
    roles: both,
    labels: ['queue'],
    help: 'Time from the scheduling of an activity to its start, by kind of task queue',
    buckets: WAITS,
  },
  dvflow_activity_failures_total: {
    type: 'counter',
    roles: both,
    labels: ['queue', 'type'],
    help: 'Attempts of activities that failed, those that are tried again included',
  },
  dvflow_active_transfers: {
    type: 'gauge',
    roles: ['node'],
    labels: [],
    help: 'Transfers under way on this node',
  },
  dvflow_transfer_slots: {
    type: 'gauge',
    roles: ['node'],
    labels: [],
    help: 'Transfers that may run at once on this node',
  },
  dvflow_transfer_seconds: {
    type: 'histogram',
    roles: ['node'],
    labels: ['outcome'],
    help: 'Time that one attempt of a transfer took',
    buckets: LONG,
  },
  dvflow_transfer_read_bytes_total: {
    type: 'counter',
    roles: ['node'],
    labels: ['plan'],
    help: 'Bytes fetched from sources, by the way in which they are read',
  },
  dvflow_transfer_written_bytes_total: {
    type: 'counter',
    roles: ['node'],
    labels: ['plan'],
    help: 'Bytes written to volumes, zeros left out; plan zeros: bytes of devices that were made zero',
  },
  dvflow_active_uploads: {
    type: 'gauge',
    roles: ['gateway'],
    labels: [],
    help: 'Bodies of uploads that this gateway moves now',
  },
  dvflow_upload_slots: {
    type: 'gauge',
    roles: ['gateway'],
    labels: [],
    help: 'Bodies of uploads that this gateway moves at once',
  },
  dvflow_upload_received_bytes_total: {
    type: 'counter',
    roles: ['gateway'],
    labels: [],
    help: 'Bytes of uploads handed on to nodes',
  },
  dvflow_upload_answers_total: {
    type: 'counter',
    roles: ['gateway'],
    labels: ['code'],
    help: 'Answers to uploads, by the class of their HTTP status',
  },
  dvflow_pool_usable: {
    type: 'gauge',
    roles: ['node'],
    labels: ['node', 'pool'],
    help: '1 where the backing directory could be opened at the last look, else 0',
  },
  dvflow_pool_capacity_bytes: {
    type: 'gauge',
    roles: ['node'],
    labels: ['node', 'pool'],
    help: 'Size of the file system that holds the pool',
  },
  dvflow_pool_room_bytes: {
    type: 'gauge',
    roles: ['node'],
    labels: ['node', 'pool'],
    help: 'Bytes of the pool that can still be promised',
  },
  dvflow_pool_promised_bytes: {
    type: 'gauge',
    roles: ['node'],
    labels: ['node', 'pool'],
    help: 'Bytes promised to the volumes of the pool',
  },
  dvflow_pool_promises: {
    type: 'gauge',
    roles: ['node'],
    labels: ['node', 'pool'],
    help: 'Volumes of the pool to which bytes are promised',
  },
  dvflow_pool_shared_with_os: {
    type: 'gauge',
    roles: ['node'],
    labels: ['node', 'pool'],
    help: '1 where the pool shares a file system with the operating system of the node, else 0',
  },
} as const satisfies Record<string, MetricDefinition>;

/** Name of a metric of dvflow's own. */
export type MetricName = keyof typeof METRICS;

/** Upper bounds by name, in the form that Temporal's runtime takes; its own waits get ours, since a transfer may wait for hours. */
export function histogramBuckets(): Record<string, number[]> {
  const own = Object.entries<MetricDefinition>(METRICS).flatMap(([name, { buckets }]) =>
    buckets ? [[name, [...buckets]] as const] : [],
  );
  return { ...Object.fromEntries(own), temporal_activity_schedule_to_start_latency: WAITS };
}
