/** What the claim of a DataVolume will be, decided before anything is allocated. */
import type { V1StorageClass } from '@kubernetes/client-node';
import { permanentFailure } from '../failures.js';
import type { ControlActivities } from '../interfaces.js';
import type { DataVolumeRef, PoolRef, TargetPlan } from '../types.js';
import { judgeClaim } from './adoption.js';
import { completeModes } from './claim-modes.js';
import type { ClaimModes } from './claim-modes.js';
import { offeredSets } from './claim-property-sets.js';
import { listVolumes } from './client.js';
import type { Kubernetes } from './client.js';
import { readDataVolume } from './data-volumes.js';
import { CDI_ANNOTATIONS, HOSTPATH_ACCESS_MODES, HOSTPATH_PROVISIONERS } from './names.js';
import type { CdiConfig, ClaimTemplate, DataVolume, StorageProfile } from './objects.js';
import { refuseContent, requestOf, templateOf } from './claim-template.js';
import { choosePool, listUsablePools } from './pools.js';
import { filesystemOverhead, usableSpace } from './overhead.js';
import {
  chooseStorageClass,
  readCdiConfig,
  readModeDefaults,
  readStorageProfile,
} from './storage-classes.js';
import { planStaticTarget } from './static-plan.js';
import { refuseMatchingVolume, refuseReservedVolume } from './static-volumes.js';
import { shareReading } from '../shared-reading.js';

/** Everything that decides a plan, read from the cluster. */
export interface TargetFacts {
  readonly dataVolume: DataVolume;
  readonly storageClass: V1StorageClass;
  readonly modeDefaults: Readonly<Record<string, string>>;
  readonly profile?: StorageProfile | undefined;
  readonly config?: CdiConfig | undefined;
  readonly pools: readonly PoolRef[];
  /** Why there are not more pools. */
  readonly refusals?: readonly string[] | undefined;
}

/** Plan of a claim that exists or that somebody else will make: nothing will be allocated for it. */
const NOTHING_TO_ALLOCATE = {
  storageClass: '',
  provisioner: '',
  bindingMode: 'Immediate',
  reclaimPolicy: 'Retain',
  waitForConsumer: false,
  accessModes: [],
  volumeMode: 'Filesystem',
  requestBytes: 0,
  usableBytes: 0,
  overhead: 0,
  api: 'pvc',
  pool: { path: '', useNamingPrefix: false },
  preallocation: false,
} as const satisfies Omit<TargetPlan, 'claim'>;

/** The plan of the claim of a DataVolume that has none. */
export type ClaimPlanner = (dataVolume: DataVolume, config: CdiConfig | undefined) => Promise<TargetPlan>;

/** What the activities of targets need. */
interface TargetDependencies {
  readonly kubernetes: Kubernetes;
  readonly planClaim: ClaimPlanner;
}

/** Activities that plan a target. */
export function createTargetActivities({
  kubernetes,
  planClaim,
}: TargetDependencies): Pick<ControlActivities, 'planTarget'> {
  async function planTarget({ dataVolume: ref }: { dataVolume: DataVolumeRef }): Promise<TargetPlan> {
    const dataVolume = await readDataVolume(kubernetes, ref);
    const config = await readCdiConfig(kubernetes);
    const verdict = await judgeClaim(kubernetes, dataVolume, config);
    return verdict.claim === 'create'
      ? await planClaim(dataVolume, config)
      : { ...NOTHING_TO_ALLOCATE, ...verdict };
  }

  return { planTarget };
}

/**
 * Plans the claim of a DataVolume that has none: a volume that somebody made, or one of a pool. Plans that are asked for at the same
 * time share one reading of the volumes: a hundred lists of some thousands do not fit into a worker's memory.
 */
export function createClaimPlanner(kubernetes: Kubernetes): ClaimPlanner {
  const readVolumes = shareReading(() => listVolumes(kubernetes));

  async function gatherFacts(dataVolume: DataVolume, config: CdiConfig | undefined): Promise<TargetFacts> {
    const { api, template } = templateOf(dataVolume);
    const defaults = dataVolume.spec.contentType === 'archive' ? 'pvc' : api;
    const storageClass = await chooseStorageClass(kubernetes, template.storageClassName, defaults);
    refuseForeign(storageClass);
    const name = storageClass.metadata?.name ?? '';
    return {
      dataVolume,
      config,
      storageClass,
      modeDefaults: api === 'storage' ? await readModeDefaults(kubernetes) : {},
      profile: api === 'storage' ? await readStorageProfile(kubernetes, name) : undefined,
      ...(await listUsablePools(kubernetes)),
    };
  }

  return async (dataVolume, config) => {
    const volumes = await readVolumes();
    const planned = await planStaticTarget(kubernetes, { dataVolume, config, volumes });
    if (planned) return planned;
    refuseReservedVolume(volumes, dataVolume);
    const target = plan(await gatherFacts(dataVolume, config));
    refuseMatchingVolume(volumes, target);
    return target;
  };
}

/**
 * The plan that these facts lead to.
 * @throws {@link FailureType} `IncompatiblePVC`, `StorageClassNotFound`, `InvalidDataVolume`, `ContentTypeNotSupported`
 */
export function plan(facts: TargetFacts): TargetPlan {
  const { dataVolume, storageClass, config, pools, refusals } = facts;
  const { api, template } = templateOf(dataVolume);
  refuseForeign(storageClass);
  const name = storageClass.metadata?.name ?? '';
  refuseContent(dataVolume, template);
  const modes = modesOf(facts, template, api);
  refuseModes(modes, name);
  const overhead = filesystemOverhead(config, name);
  const requestBytes = requestOf(template, api, overhead, facts.profile);
  const bindingMode =
    storageClass.volumeBindingMode === 'WaitForFirstConsumer' ? 'WaitForFirstConsumer' : 'Immediate';
  const pool = choosePool(storageClass, pools, refusals);
  return {
    claim: 'create',
    storageClass: name,
    provisioner: storageClass.provisioner,
    bindingMode,
    reclaimPolicy: storageClass.reclaimPolicy === 'Retain' ? 'Retain' : 'Delete',
    waitForConsumer: bindingMode === 'WaitForFirstConsumer' && waitsForConsumer(dataVolume, config),
    ...modes,
    requestBytes,
    usableBytes: usableSpace(overhead, requestBytes),
    overhead,
    api,
    pool,
    preallocation:
      dataVolume.spec.preallocation ?? config?.spec?.preallocation ?? config?.status?.preallocation ?? false,
  };
}

function modesOf(facts: TargetFacts, template: ClaimTemplate, api: string): ClaimModes {
  const { dataVolume, modeDefaults, profile, storageClass } = facts;
  if (api === 'storage') {
    return completeModes({
      template,
      contentType: dataVolume.spec.contentType,
      storageClass: storageClass.metadata?.name ?? '',
      defaults: modeDefaults,
      sets: offeredSets(storageClass, profile, []),
    });
  }
  return {
    accessModes: template.accessModes ?? [],
    volumeMode: template.volumeMode === 'Block' ? 'Block' : 'Filesystem',
  };
}

function waitsForConsumer({ metadata }: DataVolume, config: CdiConfig | undefined): boolean {
  const honoured = config?.spec?.featureGates?.includes('HonorWaitForFirstConsumer') ?? false;
  return honoured && metadata.annotations?.[CDI_ANNOTATIONS.immediate] === undefined;
}

function refuseForeign({ metadata, provisioner }: V1StorageClass): void {
  if (HOSTPATH_PROVISIONERS.includes(provisioner)) return;
  throw incompatible(
    `StorageClass "${metadata?.name}" belongs to provisioner ${provisioner}: this release fills volumes of ` +
      `${HOSTPATH_PROVISIONERS[0]} only`,
  );
}

function refuseModes({ accessModes, volumeMode }: ClaimModes, storageClass: string): void {
  const offer = `StorageClass "${storageClass}" offers ReadWriteOnce (or ReadWriteOncePod) and Filesystem`;
  if (volumeMode === 'Block') throw incompatible(`volumeMode is Block: ${offer}`);
  const refused = accessModes.find((mode) => !HOSTPATH_ACCESS_MODES.includes(mode));
  if (refused) throw incompatible(`accessMode is ${refused}: ${offer}`);
}

function incompatible(message: string): Error {
  return permanentFailure('IncompatiblePVC', message);
}
