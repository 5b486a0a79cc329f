import assert from 'node:assert/strict';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { createLocalVolumeActivities } from '../../activities/kubernetes/local-volumes.js';
import { useControlPlane } from './support/control-plane.js';
import { act, makeNamespace } from './support/fixtures.js';

const NODE = 'plans-volumes';
const GIB = 2 ** 30;
const POOLS = {
  group: 'hostpathprovisioner.kubevirt.io',
  version: 'v1beta1',
  plural: 'hostpathprovisioners',
} as const;

describe('the plan of a block volume on a real API server', function () {
  this.timeout(30_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  const path = '/var/plans-volumes';

  before(async () => {
    admin = plane().admin;
    await admin.core.createNode({
      body: { metadata: { name: NODE, labels: { 'kubernetes.io/hostname': NODE } } },
    });
    await plane().kubectl(
      ...['patch', 'node', NODE, '--subresource=status', '--type=merge', '-p'],
      JSON.stringify({ status: { conditions: [{ type: 'Ready', status: 'True' }] } }),
    );
    await admin.storage.createStorageClass({
      body: { metadata: { name: NODE }, provisioner: 'kubernetes.io/no-provisioner' },
    });
    await admin.custom.createClusterCustomObject({
      ...POOLS,
      body: {
        apiVersion: 'hostpathprovisioner.kubevirt.io/v1beta1',
        kind: 'HostPathProvisioner',
        metadata: { name: NODE },
        spec: { storagePools: [{ name: 'plans', path, overcommit: 3 }] },
      },
    });
  });
  after(async () => {
    await admin.custom.deleteClusterCustomObject({ ...POOLS, name: NODE });
    await plane().kubectl('delete', 'storageclass', NODE);
    await plane().kubectl('delete', 'node', NODE);
  });

  it('counts a volume of hostpath-provisioner by its claim, not by the pool that it claims to be, and has the pool’s overcommit', async () => {
    const namespace = await makeNamespace(admin);
    const spec = { accessModes: ['ReadWriteOnce'], storageClassName: 'of-another' };
    const claim = await admin.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: { metadata: { name: 'data' }, spec: { ...spec, resources: { requests: { storage: '1Gi' } } } },
    });
    const name = `pvc-${claim.metadata?.uid}`;
    await admin.core.createPersistentVolume({
      body: {
        metadata: {
          name,
          annotations: { hostPathProvisionerIdentity: 'kubevirt.io.hostpath-provisioner-node' },
        },
        spec: {
          ...spec,
          capacity: { storage: '10Ti' },
          hostPath: { path: `${path}/${name}` },
          claimRef: { namespace, name: 'data', uid: claim.metadata?.uid ?? '' },
          nodeAffinity: {
            required: {
              nodeSelectorTerms: [
                { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [NODE] }] },
              ],
            },
          },
        },
      },
    });
    const { planLocalVolume } = createLocalVolumeActivities({
      kubernetes: createKubernetes(plane().control),
      transferNamespace: 'dvflow-transfers',
    });
    const volume = { node: NODE, size: '2Gi', storageClassName: NODE, pool: path };
    const plan = await act(planLocalVolume, [{ volume, name: 'planned' }]);
    await plane().kubectl('delete', 'pv', name, '--wait=false');
    assert.deepEqual([plan.foreignBytes, plan.overcommit, plan.bytes], [GIB, 3, 2 * GIB]);
  });
});
