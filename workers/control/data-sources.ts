/** Follows DataSources and what they name: keeps their status, and wakes the clones that wait for either. */
import type { KubeConfig, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import type { Logger } from '@temporalio/common';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import { cloneSourceOf, sourceRefOf } from '../../activities/kubernetes/clone-names.js';
import { namedBy, nextOf } from '../../activities/kubernetes/data-source-chain.js';
import { CDI_GROUP, CDI_VERSION } from '../../activities/kubernetes/names.js';
import type { DataSource, DataVolume } from '../../activities/kubernetes/objects.js';
import { createDataSourceKeeper } from './data-source-keeper.js';
import type { DataVolumeWatch } from './data-volumes.js';
import { createKeyQueue } from './key-queue.js';
import { keyOf, startListWatch, type ListWatch, type WatchedObject } from './list-watch.js';

/** How soon a DataSource is looked at again after a conflict, in ms. */
const CONFLICT_MS = 100;

/** How soon one is looked at again whose snapshot is not ready, in ms. */
const SNAPSHOT_MS = 30_000;

/** How long news are collected, in ms: nobody who waits for a source notices so little. */
const TOLD_MS = 50;

/** A claim as raw JSON. */
type Claim = V1PersistentVolumeClaim & WatchedObject;

/** What follows DataSources. */
export interface DataSourceWatch {
  /** A claim appeared, changed or went. */
  claimChanged(key: string, change: { before?: Claim; after?: Claim }): void;
  /** A DataVolume appeared, changed or went. */
  dataVolumeChanged(key: string, change: { before?: DataVolume; after?: DataVolume }): void;
  synced(): boolean;
  stop(): Promise<void>;
}

/** Starts to follow. Replicas may do so at once: each write is of the version that was read. */
export function watchDataSources(options: {
  readonly kubeConfig: KubeConfig;
  readonly dataVolumes: Pick<DataVolumeWatch, 'served' | 'wake'>;
  readonly logger: Logger;
  readonly relistMs?: number | undefined;
}): DataSourceWatch {
  const { dataVolumes, logger } = options;
  const keep = createDataSourceKeeper(createKubernetes(options.kubeConfig));
  const queue = createKeyQueue(async (key) => {
    const [namespace = '', name = ''] = key.split('/');
    const { conflict, awaitsSnapshot } = await keep({ namespace, name });
    if (conflict) queue.addAfter(key, CONFLICT_MS);
    if (awaitsSnapshot) queue.addAfter(key, SNAPSHOT_MS);
  }, logger);

  /** What has changed and nobody has been told of, as `namespace/name`. */
  let news = noNews();
  const telling = createKeyQueue(async () => tell(), logger);

  const list: ListWatch<DataSource & WatchedObject> = startListWatch<DataSource & WatchedObject>({
    ...options,
    path: `/apis/${CDI_GROUP}/${CDI_VERSION}/datasources`,
    changed(key, { before, after }) {
      queue.add(key);
      // what it names, not what it says about itself, is what others follow
      if (JSON.stringify(before?.spec) !== JSON.stringify(after?.spec)) note('dataSources', key);
    },
  });

  /** The first list of a cluster's claims is news of all of them: told together, everything is gone through once. */
  function note(kind: keyof ReturnType<typeof noNews>, key: string): void {
    news[kind].add(key);
    telling.addAfter('news', TOLD_MS);
  }

  function tell(): void {
    const { sources, dataSources } = news;
    news = noNews();
    const all = list.all().map((dataSource) => ({ key: keyOf(dataSource), dataSource }));
    const affected = new Set(dataSources);
    for (const { key, dataSource } of all)
      if (sources.has(slashed(namedBy(dataSource)) ?? '')) affected.add(key);
    // a DataSource that names another one follows it
    for (const { key, dataSource } of all)
      if (affected.has(slashed(nextOf(dataSource)) ?? '')) affected.add(key);
    for (const key of affected) queue.add(key);
    for (const { dataVolume } of dataVolumes.served()) {
      const source = slashed(cloneSourceOf(dataVolume)) ?? '';
      const reference = slashed(sourceRefOf(dataVolume)) ?? '';
      if (sources.has(source) || affected.has(reference)) dataVolumes.wake(keyOf(dataVolume));
    }
  }

  return {
    claimChanged(key, { before, after }) {
      if (claimState(before) !== claimState(after)) note('sources', key);
    },
    dataVolumeChanged(key, { before, after }) {
      if (dataVolumeState(before) !== dataVolumeState(after)) note('sources', key);
    },
    synced: () => list.synced(),
    async stop() {
      await list.stop();
      await Promise.all([telling.stop(), queue.stop()]);
    },
  };
}

/** Nothing: neither of claims, nor of what DataSources name. */
function noNews(): { readonly sources: Set<string>; readonly dataSources: Set<string> } {
  return { sources: new Set(), dataSources: new Set() };
}

function slashed(named: { namespace: string; name: string } | undefined): string | undefined {
  return named && `${named.namespace}/${named.name}`;
}

/** What of a claim matters to who clones it; progress and other news come too often to look at everything. */
function claimState(claim: Claim | undefined): string {
  const { metadata, status } = claim ?? {};
  return JSON.stringify([metadata?.uid, metadata?.deletionTimestamp, metadata?.labels, status?.phase]);
}

function dataVolumeState(dataVolume: DataVolume | undefined): string {
  const { metadata, status } = dataVolume ?? {};
  return JSON.stringify([metadata?.uid, metadata?.labels, status?.phase]);
}
