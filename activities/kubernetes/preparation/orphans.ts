/** What was made for HostPathProvisioners that went while nobody watched. */
import type { ProvisionerRef } from '../../types/preparation.js';
import { listAll, type Kubernetes } from '../client.js';
import { listConfigs } from './machine-config-api.js';
import { isOwn, MADE_BY, MADE_FOR } from './ownership.js';
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
    const name = metadata?.annotations?.[MADE_BY];
    // a copy that somebody made says whose its original is
    if (metadata && uid && name && isOwn(metadata)) owners.set(uid, { uid, name });
  }
  const orphans: ProvisionerRef[] = [];
  for (const owner of owners.values()) {
    const found = await findProvisioner(kubernetes, owner.name);
    if (found?.metadata.uid !== owner.uid) orphans.push(owner);
  }
  return orphans;
}
