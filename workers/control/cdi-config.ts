/**
 * Keeps CDIConfig `config`: its specification from the CDI that has the authority, its status from both and the cluster; and the status of
 * that CDI.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from '@temporalio/common';
import {
  activeCdi,
  configSpec,
  configStatus,
  deployedStatus,
  hasAuthority,
  takeOver,
} from '../../activities/kubernetes/cdi-config.js';
import { listAll, type Kubernetes } from '../../activities/kubernetes/client.js';
import {
  createClusterObject,
  listClusterObjects,
  RECOMMENDED_LABELS,
  replaceClusterObject,
} from '../../activities/kubernetes/cluster-objects.js';
import type { Cdi, CdiConfig } from '../../activities/kubernetes/objects.js';
import { readCdiConfig } from '../../activities/kubernetes/storage-classes.js';
import { ownVersion } from '../version.js';

/** Keeps CDIConfig as it is to be; `false` where somebody else wrote meanwhile, and it is to be looked at again. */
export type KeepCdiConfig = () => Promise<boolean>;

/** Keeps CDIConfig with this identity. */
export function createCdiConfigKeeper({
  kubernetes,
  logger,
  uploadProxyUrl,
}: {
  readonly kubernetes: Kubernetes;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
  /** Where clients reach the gateway; CDIConfig's `uploadProxyURLOverride` goes before it. */
  readonly uploadProxyUrl?: string | undefined;
}): KeepCdiConfig {
  const version = ownVersion();

  async function keep(): Promise<boolean> {
    const config = await readCdiConfig(kubernetes);
    const cdis = await listClusterObjects<Cdi>(kubernetes, 'cdis');
    const active = activeCdi(cdis);
    if (!active && cdis.length > 1) {
      logger.warn('several CDI objects, so none of them configures anything: remove all but one', {
        names: cdis.map(({ metadata }) => metadata.name),
      });
    }
    const cdi = active && !hasAuthority(active) ? await giveAuthority(active, config) : active;
    if (active && !cdi) return false;
    const kept = await keepConfig(config, cdi);
    return (!cdi || (await tellDeployed(cdi))) && kept;
  }

  async function tellDeployed(cdi: Cdi): Promise<boolean> {
    const status = deployedStatus(cdi, version);
    if (!status) return true;
    return (await replaceClusterObject(kubernetes, 'cdis', { ...cdi, status }, 'status')) !== undefined;
  }

  /** From now on the CDI rules, as CDI's own operator has it. */
  async function giveAuthority(cdi: Cdi, config: CdiConfig | undefined): Promise<Cdi | undefined> {
    const taken = await replaceClusterObject(kubernetes, 'cdis', takeOver(cdi, config));
    if (taken) logger.info('spec.config of CDI rules from now on', { name: cdi.metadata.name });
    return taken;
  }

  async function keepConfig(config: CdiConfig = {}, cdi: Cdi | undefined): Promise<boolean> {
    const classes = await listAll('listing StorageClasses', (page) =>
      kubernetes.storage.listStorageClass(page),
    );
    const spec = configSpec(config, cdi);
    const wanted: CdiConfig = {
      ...config,
      metadata: {
        ...config.metadata,
        name: 'config',
        labels: { ...RECOMMENDED_LABELS, ...config.metadata?.labels },
      },
      spec,
      status: configStatus(spec, config.status, classes, uploadProxyUrl),
    };
    if (isDeepStrictEqual(wanted, config)) return true;
    const written = config.metadata
      ? await replaceClusterObject(kubernetes, 'cdiconfigs', wanted)
      : await createClusterObject(kubernetes, 'cdiconfigs', wanted);
    return written !== undefined;
  }

  return keep;
}
