/** What the control role does besides running workflows: it watches Kubernetes, and shows progress there. */
import type { KubeConfig } from '@kubernetes/client-node';
import type { Client } from '@temporalio/client';
import type { Logger } from '@temporalio/common';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import { createCloneSourceActivities } from '../../activities/kubernetes/clone-sources.js';
import { lookAround } from '../../activities/kubernetes/clone/origin.js';
import type { Phase } from '../../activities/types.js';
import type { Metrics } from '../metrics/index.js';
import { keepCertificates } from '../pki/secrets.js';
import { keepApiServices } from './api-services.js';
import { startCapacity } from './capacity.js';
import { watchClaims } from './claims.js';
import { watchCloneSources } from './clone-sources.js';
import { watchDataSources, type DataSourceWatch } from './data-sources.js';
import { createDataVolumeWrites } from './data-volume-writes.js';
import { watchDataVolumes, type DataVolumeWatch } from './data-volumes.js';
import { createKeyQueue } from './key-queue.js';
import { startProgress } from './progress.js';
import { createProvisioner, type Provisioner } from './provisioner.js';
import { watchProvisioners } from './provisioners.js';
import { createRuns } from './runs.js';
import { ensureSweepSchedule } from './schedule.js';
import { watchStorageSettings } from './storage-settings.js';
import { createUploadClaims } from './upload-claims.js';
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
  /** Told how many DataVolumes are in which phase, and how long a look at them takes. */
  readonly metrics?: Metrics | undefined;
  /** Where clients reach the gateway, told in CDIConfig. */
  readonly uploadProxyUrl?: string | undefined;
  /** Keep the certificates of data ports in their Secrets. @default false */
  readonly tlsSecrets?: boolean | undefined;
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
  const kubernetes = createKubernetes(options.kubeConfig);
  const writes = createDataVolumeWrites(kubernetes);
  const dataVolumes: DataVolumeWatch = watchDataVolumes({
    ...options,
    runs,
    writes,
    changed: (key, change) => dataSources.dataVolumeChanged(key, change),
    claimOf: (key) => (claims.synced() ? { claim: claims.get(key) } : undefined),
  });
  const dataSources: DataSourceWatch = watchDataSources({ ...options, dataVolumes });
  const capacity = startCapacity({ client, logger, isRead: () => provisioner.hasCapacityClass() });
  const provisioner: Provisioner = createProvisioner({
    ...options,
    runs,
    classesChanged: () => capacity.changed(),
  });
  const uploads = createUploadClaims({ client, runs, logger });
  const claims = watchClaims({ ...options, dataVolumes, dataSources, provisioner, uploads });
  const settings = watchStorageSettings({
    ...options,
    volumes: () => (volumes.synced() ? volumes.all() : undefined),
  });
  const volumes = watchVolumes({
    ...options,
    kubernetes,
    runs,
    dataVolumes,
    provisioner,
    capacity,
    classChanged: (storageClass) => settings.volumeChanged(storageClass),
  });
  const preparations = watchProvisioners({ ...options, kubernetes });
  const observeRound = (ms: number): void => {
    options.metrics?.record('dvflow_progress_round_seconds', ms / 1000);
    for (const [phase, count] of countPhases(dataVolumes))
      options.metrics?.record('dvflow_data_volumes', count, { phase });
  };
  const progress = startProgress({ watch: dataVolumes, runs, writes, logger, observeRound });
  const cloneSources = createCloneSourceActivities({ kubernetes });
  const sources = watchCloneSources({
    watch: dataVolumes,
    lookAround: () =>
      lookAround({
        kubernetes,
        resolve: async (input) => await cloneSources.resolveCloneSource(input),
      }),
    logger,
  });
  const schedule = createKeyQueue(async () => await ensureSweepSchedule(client), logger);
  schedule.add('sweep schedule');
  const lists = [dataVolumes, dataSources, claims, volumes, settings, provisioner, preparations];
  const certificates = options.tlsSecrets
    ? [keepCertificates({ kubernetes, logger }), keepApiServices({ kubernetes, logger })]
    : [];
  const parts = [progress, sources, ...lists, uploads, capacity, schedule, ...certificates];
  return {
    ready: () => lists.every((list) => list.synced()),
    async stop() {
      await Promise.all(parts.map((part) => part.stop()));
    },
  };
}

/** Every phase of a run that is under way, those without a DataVolume too: a gauge keeps what it was told last. */
const PHASES: readonly Phase[] = [
  'Pending',
  'WaitForFirstConsumer',
  'ImportScheduled',
  'ImportInProgress',
  'UploadScheduled',
  'UploadReady',
  'CloneScheduled',
  'CloneInProgress',
];

function countPhases({ served }: Pick<DataVolumeWatch, 'served'>): ReadonlyMap<string, number> {
  const counts = new Map<string, number>(PHASES.map((phase) => [phase, 0]));
  for (const { dataVolume } of served()) {
    const phase = dataVolume.status?.phase || 'Pending';
    counts.set(phase, (counts.get(phase) ?? 0) + 1);
  }
  return counts;
}
