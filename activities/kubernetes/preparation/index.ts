import type { Client } from '@temporalio/client';
import type { PreparationControlActivities } from '../../preparation-interfaces.js';
import { listAll, type Kubernetes } from '../client.js';
import { listMachinePools, removeConfigs } from './machine-config-api.js';
import { createMachineConfigActivities } from './machine-configs.js';
import { chooseNodes } from './node-selection.js';
import { createProvisionerOpener, findProvisioner, listProvisioners } from './provisioners.js';
import { lookAgain } from './runs.js';
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
  return {
    openHostPathProvisioner: createProvisionerOpener(kubernetes, temporalNamespace),
    async selectNodes({ provisioner }) {
      const [nodes, pools, found] = await Promise.all([
        listAll('listing nodes', (page) => kubernetes.core.listNode(page)),
        listMachinePools(kubernetes),
        findProvisioner(kubernetes, provisioner.name),
      ]);
      return chooseNodes(nodes, found?.spec?.workload, pools !== undefined);
    },
    ...createMachineConfigActivities(dependencies),
    ...createStorageClassActivities({ kubernetes }),
    ...createPreparationStatusActivities({ kubernetes }),
    async removePreparation({ provisioner: { uid }, only }) {
      const configs = await removeConfigs(
        kubernetes,
        uid,
        (name) => only?.machineConfigs.includes(name) ?? true,
      );
      const storageClasses = await removeClasses(
        kubernetes,
        uid,
        (name) => only?.storageClasses.includes(name) ?? true,
      );
      return { ...configs, storageClasses };
    },
    async listHostPathProvisioners() {
      return (await listProvisioners(kubernetes)).map(({ metadata: { name, uid } }) => ({ name, uid }));
    },
    async recheckPreparation({ provisioner }) {
      const found = await findProvisioner(kubernetes, provisioner.name);
      // one that has gone is the watch's affair
      if (found?.metadata.uid === provisioner.uid) await lookAgain(temporal, found.metadata);
    },
  };
}
