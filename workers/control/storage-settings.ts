/** Follows everything that storage is configured with, and keeps what follows from it: StorageProfiles and CDIConfig. */
import type { KubeConfig, V1PersistentVolume, V1StorageClass } from '@kubernetes/client-node';
import type { Logger } from '@temporalio/common';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import { NO_PROVISIONER } from '../../activities/kubernetes/names.js';
import type { Metrics } from '../metrics/index.js';
import { createCdiConfigKeeper } from './cdi-config.js';
import { createKeyQueue } from './key-queue.js';
import { startListWatch, type ListWatch, type WatchedObject } from './list-watch.js';
import { createProfileKeeper } from './storage-profiles.js';

/** A StorageClass as raw JSON. */
type StorageClass = V1StorageClass & WatchedObject;

/**
 * How soon what is kept is looked at after somebody wrote it, in ms. Two releases that run beside each other for a while may not
 * agree about it; then they write against each other once in this time, not as fast as they can.
 */
const WRITTEN_MS = 1000;

/** How soon after a conflict, in ms. */
const CONFLICT_MS = 100;

const CDI_PATH = '/apis/cdi.kubevirt.io/v1beta1';

/** What follows storage's configuration. */
export interface StorageSettings {
  /** A volume of the class appeared, changed or went. */
  volumeChanged(storageClass: string): void;
  /** Everything has been listed once. */
  synced(): boolean;
  stop(): Promise<void>;
}

/** What it is followed with. */
export interface StorageSettingsOptions {
  readonly kubeConfig: KubeConfig;
  readonly logger: Logger;
  readonly relistMs?: number | undefined;
  /** Where clients reach the gateway. */
  readonly uploadProxyUrl?: string | undefined;
  /** Told of classes that nothing is known of; CDI alerts on the same. */
  readonly metrics?: Pick<Metrics, 'record'> | undefined;
  /** Every volume of the cluster; absent until they have been listed. */
  volumes(): readonly V1PersistentVolume[] | undefined;
}

/** Starts to follow. Replicas may do so at once: each write is of the version that was read. */
export function watchStorageSettings(options: StorageSettingsOptions): StorageSettings {
  const { logger } = options;
  const kubernetes = createKubernetes(options.kubeConfig);
  const keepProfile = createProfileKeeper({
    kubernetes,
    logger,
    observe: ({ name, provisioner }, incomplete) =>
      options.metrics?.record('dvflow_storage_profile_incomplete', incomplete ? 1 : 0, {
        storageclass: name,
        provisioner,
      }),
    volumes: () => options.volumes() ?? [],
  });
  const keepConfig = createCdiConfigKeeper({
    kubernetes,
    logger,
    uploadProxyUrl: options.uploadProxyUrl,
  });
  const profileQueue = createKeyQueue(async (name) => {
    // what a class without provisioner offers is not to be judged by the volumes that were listed so far
    const known = options.volumes() !== undefined && (await keepProfile(name));
    if (!known) profileQueue.addAfter(name, CONFLICT_MS);
  }, logger);
  const configQueue = createKeyQueue(async (key) => {
    if (!(await keepConfig())) configQueue.addAfter(key, CONFLICT_MS);
  }, logger);

  const follow = <T extends WatchedObject>(path: string, changed: (key: string) => void): ListWatch<T> =>
    startListWatch<T>({ ...options, path, changed });
  const classes = follow<StorageClass>('/apis/storage.k8s.io/v1/storageclasses', (name) => {
    profileQueue.add(name);
    configQueue.add('config');
  });
  const lists: readonly ListWatch<WatchedObject>[] = [
    classes,
    follow(`${CDI_PATH}/storageprofiles`, (name) => profileQueue.addAfter(name, WRITTEN_MS)),
    follow(`${CDI_PATH}/cdiconfigs`, () => configQueue.addAfter('config', WRITTEN_MS)),
    follow(`${CDI_PATH}/cdis`, () => configQueue.addAfter('config', WRITTEN_MS)),
  ];
  configQueue.add('config');

  return {
    volumeChanged(name) {
      if (classes.get(name)?.provisioner === NO_PROVISIONER) profileQueue.addAfter(name, WRITTEN_MS);
    },
    synced: () => lists.every((list) => list.synced()),
    async stop() {
      await Promise.all([...lists, profileQueue, configQueue].map((part) => part.stop()));
    },
  };
}
