/** What the control role does besides running workflows: it watches Kubernetes, and shows progress there. */
import type { KubeConfig } from '@kubernetes/client-node';
import type { Client } from '@temporalio/client';
import type { Logger, MetricMeter } from '@temporalio/common';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import { watchClaims } from './claims.js';
import { createDataVolumeWrites } from './data-volume-writes.js';
import { watchDataVolumes } from './data-volumes.js';
import { createKeyQueue } from './key-queue.js';
import { startProgress } from './progress.js';
import { createRuns } from './runs.js';
import { ensureSweepSchedule } from './schedule.js';
import { watchVolumes } from './volumes.js';

/** What the control role watches with. */
export interface ControlOptions {
  readonly kubeConfig: KubeConfig;
  readonly client: Client;
  readonly logger: Logger;
  /** Namespace of the client, for the log. */
  readonly temporalNamespace: string;
  /** Time between two lists of everything, in ms. @default 300_000 */
  readonly relistMs?: number | undefined;
  /** Where the gauge `dvflow_progress_round_seconds` is kept. */
  readonly metricMeter?: MetricMeter | undefined;
}

/** A control role that watches. */
export interface Control {
  /** Everything has been listed once. */
  ready(): boolean;
  stop(): Promise<void>;
}

/**
 * Starts to watch DataVolumes, claims and volumes, to show progress, and makes sure that the sweeper is scheduled. Returns at
 * once; Kubernetes and Temporal may come, go and come back.
 */
export async function startControl(options: ControlOptions): Promise<Control> {
  const { client, logger, temporalNamespace } = options;
  logger.info('watching DataVolumes', { temporalNamespace });
  const runs = createRuns(client);
  const writes = createDataVolumeWrites(createKubernetes(options.kubeConfig));
  const dataVolumes = watchDataVolumes({ ...options, runs, writes });
  const claims = watchClaims({ ...options, dataVolumes });
  const volumes = watchVolumes({ ...options, runs, dataVolumes });
  const gauge = options.metricMeter?.createGauge(
    'dvflow_progress_round_seconds',
    'float',
    's',
    'time from one look at every transfer to the next',
  );
  const observeRound = gauge && ((ms: number) => gauge.set(ms / 1000));
  const progress = startProgress({ watch: dataVolumes, runs, writes, logger, observeRound });
  const schedule = createKeyQueue(async () => await ensureSweepSchedule(client), logger);
  schedule.add('sweep schedule');
  const parts = [progress, claims, volumes, dataVolumes, schedule];
  return {
    ready: () => dataVolumes.synced() && claims.synced() && volumes.synced(),
    async stop() {
      await Promise.all(parts.map((part) => part.stop()));
    },
  };
}
