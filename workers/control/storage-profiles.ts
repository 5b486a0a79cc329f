/** Keeps a StorageProfile for every StorageClass: made, brought up to date and removed with it. */
import { isDeepStrictEqual } from 'node:util';
import type { V1OwnerReference, V1PersistentVolume, V1StorageClass } from '@kubernetes/client-node';
import type { Logger } from '@temporalio/common';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import {
  createClusterObject,
  deleteClusterObject,
  RECOMMENDED_LABELS,
  replaceClusterObject,
} from '../../activities/kubernetes/cluster-objects.js';
import type { StorageProfile } from '../../activities/kubernetes/objects.js';
import { listSnapshotClasses } from '../../activities/kubernetes/snapshot-classes.js';
import { findStorageClass, readStorageProfile } from '../../activities/kubernetes/storage-classes.js';
import {
  isIncomplete,
  profileAnnotations,
  profileStatus,
  type ProfileFacts,
} from '../../activities/kubernetes/storage-profile.js';

/** Told how much is known of each class, whenever that was looked at. */
export type ObserveProfile = (
  storageClass: { readonly name: string; readonly provisioner: string },
  incomplete: boolean,
) => void;

/** What profiles are kept with. */
export interface ProfileKeeperOptions {
  readonly kubernetes: Kubernetes;
  /** Every volume of the cluster. */
  volumes(): readonly V1PersistentVolume[];
  readonly observe?: ObserveProfile | undefined;
  readonly logger: Pick<Logger, 'info'>;
}

/**
 * Keeps the profile of the class of this name as it is to be, whatever happened before. Resolves with `false` where somebody
 * else, such as another replica, wrote meanwhile: then it is to be looked at again.
 */
export type KeepProfile = (name: string) => Promise<boolean>;

/** Keeps profiles with this identity. What is written depends on what the API server has, never on what a watch said. */
export function createProfileKeeper(options: ProfileKeeperOptions): KeepProfile {
  const { kubernetes, logger, observe } = options;
  /** Provisioners as they were told to `observe`, by class. */
  const observed = new Map<string, string>();

  async function keep(name: string): Promise<boolean> {
    const storageClass = await findStorageClass(kubernetes, name);
    const profile = await readStorageProfile(kubernetes, name);
    if (!storageClass) {
      forget(name);
      await removeProfile(profile);
      return true;
    }
    const snapshotClasses = await listSnapshotClasses(kubernetes);
    const facts = { storageClass, volumes: options.volumes(), snapshotClasses, now: new Date() };
    const kept = await keepObject({ ...facts, profile });
    const written = kept && (await keepStatus({ ...facts, profile: kept }));
    if (!written) return false;
    tell({ name, provisioner: storageClass.provisioner }, isIncomplete(written));
    return true;
  }

  /** A profile that somebody made before its class, and that nobody has kept yet, waits for it. */
  async function removeProfile(profile: StorageProfile | undefined): Promise<void> {
    if (profile?.status?.storageClass === undefined || profile.metadata?.deletionTimestamp) return;
    await deleteClusterObject(kubernetes, 'storageprofiles', profile);
    logger.info('removed the StorageProfile of a StorageClass that is gone', {
      name: profile.metadata?.name,
    });
  }

  async function keepObject(facts: ProfileFacts): Promise<StorageProfile | undefined> {
    const { profile } = facts;
    const wanted = withMetadata(facts);
    if (!profile) {
      const created = await createClusterObject(kubernetes, 'storageprofiles', wanted);
      if (created) logger.info('made the StorageProfile of a StorageClass', { name: wanted.metadata?.name });
      return created;
    }
    if (isDeepStrictEqual(wanted, profile)) return profile;
    return await replaceClusterObject(kubernetes, 'storageprofiles', wanted);
  }

  async function keepStatus(facts: ProfileFacts & { profile: StorageProfile }) {
    const { profile } = facts;
    const status = profileStatus(facts);
    if (isDeepStrictEqual(status, profile.status)) return profile;
    return await replaceClusterObject(kubernetes, 'storageprofiles', { ...profile, status }, 'status');
  }

  function tell(storageClass: Parameters<ObserveProfile>[0], incomplete: boolean): void {
    const before = observed.get(storageClass.name);
    if (before !== undefined && before !== storageClass.provisioner) forget(storageClass.name);
    observed.set(storageClass.name, storageClass.provisioner);
    observe?.(storageClass, incomplete);
  }

  function forget(name: string): void {
    const provisioner = observed.get(name);
    if (provisioner !== undefined) observe?.({ name, provisioner }, false);
    observed.delete(name);
  }

  return keep;
}

/** The profile with everything on it that dvflow adds; what others wrote stays. */
function withMetadata(facts: ProfileFacts): StorageProfile {
  const { storageClass, profile } = facts;
  const { metadata } = profile ?? {};
  const annotations = { ...profileAnnotations(facts), ...metadata?.annotations };
  return {
    ...profile,
    metadata: {
      ...metadata,
      name: storageClass.metadata?.name ?? '',
      labels: { ...RECOMMENDED_LABELS, ...metadata?.labels },
      ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
      ownerReferences: owners(metadata?.ownerReferences ?? [], storageClass),
    },
    spec: profile?.spec ?? {},
  };
}

/**
 * The class owns its profile, so that it goes with it even while no worker runs. (CDI's profiles belong to the CDI object:
 * there, removing that one is removing the installation. Here it would only lose what operators wrote.)
 */
function owners(
  before: readonly V1OwnerReference[],
  { metadata }: V1StorageClass,
): readonly V1OwnerReference[] {
  const own = {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    name: metadata?.name ?? '',
    uid: metadata?.uid ?? '',
  };
  return [...before.filter(({ kind, name }) => kind !== own.kind || name !== own.name), own];
}
