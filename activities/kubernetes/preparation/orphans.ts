/** What was made for HostPathProvisioners that went while nobody watched. */
import type { ProvisionerRef } from '../../types/preparation.js';
import { listAll, type Kubernetes } from '../client.js';
import { MADE_BY, MADE_FOR } from './machine-config.js';
import { listConfigs } from './machine-config-api.js';
import { findProvisioner } from './provisioners.js';

/** HostPathProvisioners that do not exist, but for which there are MachineConfigs or StorageClasses; asked afresh by name. */
export async function listOrphans(kubernetes: Kubernetes): Promise<readonly ProvisionerRef[]> {
  const [configs, classes] = await Promise.all([
    listConfigs(kubernetes, MADE_FOR),
    listAll('listing StorageClasses', (page) =>
      kubernetes.storage.listStorageClass({ ...page, labelSelector: MADE_FOR }),
    ),
  ]);
  const owners = new Map<string, ProvisionerRef>();
  for (const { metadata } of [...configs, ...classes]) {
    const uid = metadata?.labels?.[MADE_FOR];
    if (uid) owners.set(uid, { uid, name: metadata?.annotations?.[MADE_BY] ?? '' });
  }
  const orphans: ProvisionerRef[] = [];
  for (const owner of owners.values()) {
    const found = owner.name === '' ? undefined : await findProvisioner(kubernetes, owner.name);
    if (found?.metadata.uid !== owner.uid) orphans.push(owner);
  }
  return orphans;
}
