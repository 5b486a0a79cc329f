/**
 * Room for the scheduler: `CSIStorageCapacity` objects, which it reads for a class whose provisioner has a CSIDriver object with
 * `storageCapacity` (kube-scheduler, `hasEnoughCapacity` of volumebinding). Such an object is named as its provisioner, so
 * `kubevirt.io.hostpath-provisioner` can have one and `kubevirt.io/hostpath-provisioner`, with its slash, cannot.
 */
import { createHash } from 'node:crypto';
import type { V1CSIStorageCapacity, V1StorageClass } from '@kubernetes/client-node';
import type { PoolRef } from '../types.js';
import type { NodeCapacity, NodePool, ProvisionActivities } from '../types/provision.js';
import { callForOutcome, callUnlessConflict, listAll } from './client.js';
import type { Kubernetes } from './client.js';
import { readVolumes } from './foreign-volumes.js';
import { CSI_PROVISIONER, HOSTNAME_LABEL, OWN_NAMESPACE } from './names.js';
import { candidateOf } from './nodes.js';
import { listUsablePools, nodesOfPool, poolOf, readProvisioners, usablePools } from './pools.js';
import { formatQuantity, parseQuantity } from './quantity.js';

const MANAGED_BY = { 'app.kubernetes.io/managed-by': 'dvflow' };

/** Activities that tell room. */
export function createCapacityActivities({
  kubernetes,
}: {
  kubernetes: Kubernetes;
}): Pick<ProvisionActivities, 'listNodePools' | 'publishCapacity'> {
  const { core, storage } = kubernetes;

  async function listNodePools(): Promise<readonly NodePool[]> {
    const [nodes, volumes, provisioners] = await Promise.all([
      listAll('listing nodes', (page) => core.listNode(page)),
      readVolumes(kubernetes),
      readProvisioners(kubernetes),
    ]);
    const named = nodes.filter(({ metadata }) => metadata?.labels?.[HOSTNAME_LABEL] !== undefined);
    return usablePools(provisioners).pools.flatMap((pool) => {
      const placed = nodesOfPool(pool, provisioners, nodes);
      return named
        .filter(({ metadata }) => placed?.has(metadata?.name ?? '') ?? true)
        .map((node) => ({ pool, ...candidateOf(node, { volumes, pool }) }));
    });
  }

  async function publishCapacity({ capacities }: { capacities: readonly NodeCapacity[] }): Promise<void> {
    const namespace = OWN_NAMESPACE;
    const labelSelector = 'app.kubernetes.io/managed-by=dvflow';
    const [classes, { pools }, existing] = await Promise.all([
      listAll('listing StorageClasses', (page) => storage.listStorageClass(page)),
      listUsablePools(kubernetes),
      listAll('listing CSIStorageCapacities', (page) =>
        storage.listNamespacedCSIStorageCapacity({ ...page, namespace, labelSelector }),
      ),
    ]);
    const wanted = capacityObjects(classes, pools, capacities);
    const found = new Map(existing.map((object) => [object.metadata?.name ?? '', object]));
    for (const object of wanted) await write(object, found.get(object.metadata?.name ?? ''));
    const names = new Set(wanted.map(({ metadata }) => metadata?.name));
    for (const name of found.keys()) if (!names.has(name)) await remove(name);
  }

  async function write(wanted: V1CSIStorageCapacity, found: V1CSIStorageCapacity | undefined): Promise<void> {
    const namespace = OWN_NAMESPACE;
    const { name = '' } = wanted.metadata ?? {};
    const doing = `publishing CSIStorageCapacity ${name}`;
    if (!found) {
      const body = wanted;
      await callUnlessConflict(doing, storage.createNamespacedCSIStorageCapacity({ namespace, body }));
      return;
    }
    if (parseQuantity(found.capacity ?? '0') === parseQuantity(wanted.capacity ?? '0')) return;
    const metadata = { ...wanted.metadata, ...found.metadata };
    const body = { ...wanted, metadata };
    // another replica was faster: its figures are as new
    await callForOutcome(doing, storage.replaceNamespacedCSIStorageCapacity({ namespace, name, body }));
  }

  async function remove(name: string): Promise<void> {
    const doing = `removing CSIStorageCapacity ${name}`;
    const namespace = OWN_NAMESPACE;
    await callForOutcome(doing, storage.deleteNamespacedCSIStorageCapacity({ namespace, name }));
  }

  return { listNodePools, publishCapacity };
}

/** One object for each class that can have any and each node that answered; the name says which, since neither may change. */
export function capacityObjects(
  classes: readonly V1StorageClass[],
  pools: readonly PoolRef[],
  capacities: readonly NodeCapacity[],
): V1CSIStorageCapacity[] {
  return classes
    .filter(({ provisioner }) => provisioner === CSI_PROVISIONER)
    .flatMap((storageClass) => {
      // one that names no pool which exists has room nowhere
      const pool = poolOf(storageClass, pools);
      const storageClassName = storageClass.metadata?.name ?? '';
      return capacities
        .filter(({ facts, pool: { path } }) => facts !== undefined && path === pool?.path)
        .map(({ hostname, facts }) => ({
          metadata: {
            name: `dvflow-${identityOf(storageClassName, hostname)}`,
            namespace: OWN_NAMESPACE,
            labels: MANAGED_BY,
          },
          storageClassName,
          nodeTopology: { matchLabels: { [HOSTNAME_LABEL]: hostname } },
          capacity: formatQuantity(facts?.roomBytes ?? 0),
        }));
    });
}

function identityOf(...parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 20);
}
