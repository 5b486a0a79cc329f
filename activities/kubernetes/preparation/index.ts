import type { Client } from '@temporalio/client';
import { failureTypeOf, permanentFailure } from '../../failures.js';
import type { PreparationControlActivities } from '../../preparation-interfaces.js';
import { listAll, type Kubernetes } from '../client.js';
import { listMachinePools, removeConfigs } from './machine-config-api.js';
import { createMachineConfigActivities } from './machine-configs.js';
import { isOfThisRun } from './ownership.js';
import { chooseNodes } from './node-selection.js';
import { createProvisionerOpener, findProvisioner, listProvisioners } from './provisioners.js';
import { describePreparation, isStopped, lookAgain } from './runs.js';
import { createPreparationStatusActivities } from './status.js';
import { createStorageClassActivities, removeClasses } from './storage-classes.js';

/** What the activities of `prepareStorage` need. */
export interface PreparationDependencies {
  readonly kubernetes: Kubernetes;
  readonly temporal: Pick<Client, 'workflow'>;
  readonly temporalNamespace: string;
  /** Time between two looks at a rollout, in ms. @default 3000 */
  readonly pollMs?: number | undefined;
}

/** Activities of `prepareStorage` that talk to Kubernetes. */
export function createPreparationActivities(
  dependencies: PreparationDependencies,
): PreparationControlActivities {
  const { kubernetes, temporal, temporalNamespace } = dependencies;
  return aboutProvisioners({
    openHostPathProvisioner: createProvisionerOpener(kubernetes, temporalNamespace),
    async selectNodes({ provisioner }) {
      const [nodes, pools, found] = await Promise.all([
        listAll('listing nodes', (page) => kubernetes.core.listNode(page)),
        listMachinePools(kubernetes),
        findProvisioner(kubernetes, provisioner.name),
      ]);
      // another one of that name, or none, says nothing about the nodes of this one
      if (found?.metadata.uid !== provisioner.uid)
        return { selected: [], total: nodes.length, machineConfigs: false, notes: [], gone: true };
      return chooseNodes(nodes, found.spec?.workload, pools !== undefined);
    },
    ...createMachineConfigActivities(dependencies),
    ...createStorageClassActivities({ kubernetes }),
    ...createPreparationStatusActivities({ kubernetes }),
    async removePreparation({ provisioner: { uid }, only }) {
      if (!only) await refuseLiving(kubernetes, uid);
      const configs = await removeConfigs(
        kubernetes,
        uid,
        ({ metadata }) => !only || only.machineConfigs.includes(metadata.name) || isOfThisRun(metadata),
      );
      const storageClasses = await removeClasses(
        kubernetes,
        uid,
        (made) => !only || only.storageClasses.includes(made.name) || isOfThisRun(made),
      );
      return { ...configs, storageClasses };
    },
    async listHostPathProvisioners() {
      return (await listProvisioners(kubernetes)).map(({ metadata: { name, uid } }) => ({ name, uid }));
    },
    async recheckPreparation({ provisioner }) {
      const found = await findProvisioner(kubernetes, provisioner.name);
      // one that has gone is the watch's affair
      if (found?.metadata.uid !== provisioner.uid) return;
      // the removal of a MachineConfig reboots its nodes, whose workers then start: no reason to make it anew
      const latest = await describePreparation(temporal, found.metadata);
      if (!isStopped(found, latest)) await lookAgain(temporal, found.metadata);
    },
  });
}

/** What the API server refuses is a mistake in a HostPathProvisioner here: there is no DataVolume that could be at fault. */
function aboutProvisioners(activities: PreparationControlActivities): PreparationControlActivities {
  const all = Object.entries<(input: never) => Promise<unknown>>({ ...activities });
  const told = all.map(([name, work]) => [
    name,
    async (input: never): Promise<unknown> => {
      try {
        return await work(input);
      } catch (error) {
        if (!(error instanceof Error) || failureTypeOf(error) !== 'InvalidDataVolume') throw error;
        throw permanentFailure('InvalidHostPathProvisioner', error.message, error);
      }
    },
  ]);
  return Object.fromEntries(told) as PreparationControlActivities;
}

/** What was made for a HostPathProvisioner that lives is not removed because somebody mistyped its name. */
async function refuseLiving(kubernetes: Kubernetes, uid: string): Promise<void> {
  const living = (await listProvisioners(kubernetes)).find(({ metadata }) => metadata.uid === uid);
  if (living)
    throw permanentFailure(
      'InvalidHostPathProvisioner',
      `uid ${uid} is that of HostPathProvisioner ${living.metadata.name}, which is not gone: nothing is removed`,
    );
}
