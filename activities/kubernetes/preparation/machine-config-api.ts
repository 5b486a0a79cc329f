/** MachineConfigs and their pools as the API server has them; a cluster that is not OpenShift's serves neither. */
import { callForOutcome, callIfFound, type Kubernetes } from '../client.js';
import { transientFailure } from '../../failures.js';
import { isOwn, MADE_FOR } from './ownership.js';
import {
  MACHINE_CONFIG_GROUP,
  MACHINE_CONFIG_VERSION,
  type MachineConfig,
  type MachineConfigPool,
} from './objects.js';

const API = { group: MACHINE_CONFIG_GROUP, version: MACHINE_CONFIG_VERSION } as const;
/** Address of MachineConfigs for the custom objects API. */
export const CONFIGS = { ...API, plural: 'machineconfigs' } as const;
const POOLS = { ...API, plural: 'machineconfigpools' } as const;

/** The pools of the cluster; `undefined` where it has no MachineConfigs. */
export async function listMachinePools({
  custom,
}: Kubernetes): Promise<readonly MachineConfigPool[] | undefined> {
  const answer: unknown = await callIfFound(
    'listing MachineConfigPools',
    custom.listClusterCustomObject({ ...POOLS }),
  );
  return (answer as { items: MachineConfigPool[] } | undefined)?.items;
}

/** The MachineConfig of this name; none has an empty one. */
export async function findConfig({ custom }: Kubernetes, name: string): Promise<MachineConfig | undefined> {
  if (name === '') return undefined;
  const found: unknown = await callIfFound(
    `reading MachineConfig ${name}`,
    custom.getClusterCustomObject({ ...CONFIGS, name }),
  );
  return found as MachineConfig | undefined;
}

/** Those that carry these labels: the rendered ones, which are large, carry none of a role. */
export async function listConfigs(
  { custom }: Kubernetes,
  labelSelector: string,
): Promise<readonly MachineConfig[]> {
  const answer: unknown = await callIfFound(
    'listing MachineConfigs',
    custom.listClusterCustomObject({ ...CONFIGS, labelSelector }),
  );
  return (answer as { items: MachineConfig[] } | undefined)?.items ?? [];
}

/**
 * Removes MachineConfigs made for a HostPathProvisioner, and names the pools that had them; somebody's copy is none of them.
 * @throws {@link FailureType} retried: `KubernetesUnavailable` where one changed meanwhile, and is still there
 */
export async function removeConfigs(
  kubernetes: Kubernetes,
  madeFor: string,
  doomed: (config: MachineConfig) => boolean,
): Promise<{ readonly machineConfigs: readonly string[]; readonly pools: readonly string[] }> {
  const found = (await listConfigs(kubernetes, `${MADE_FOR}=${madeFor}`)).filter(
    (config) => isOwn(config.metadata) && doomed(config),
  );
  if (found.length === 0) return { machineConfigs: [], pools: [] };
  const pools = (await listMachinePools(kubernetes)) ?? [];
  for (const { metadata } of found) {
    const { name, uid, resourceVersion = '' } = metadata;
    const outcome = await callForOutcome(
      `deleting MachineConfig ${name}`,
      kubernetes.custom.deleteClusterCustomObject({
        ...CONFIGS,
        name,
        body: { preconditions: { uid, resourceVersion } },
      }) as Promise<object>,
    );
    if (outcome === 'conflict')
      throw transientFailure(
        'KubernetesUnavailable',
        `MachineConfig ${name} changed while it was to be deleted: looking at it anew`,
      );
  }
  const names = found.map(({ metadata }) => metadata.name);
  const had = pools.filter(({ spec }) =>
    spec?.configuration?.source?.some(({ name = '' }) => names.includes(name)),
  );
  return { machineConfigs: names.sort(), pools: had.map(({ metadata }) => metadata.name).sort() };
}
