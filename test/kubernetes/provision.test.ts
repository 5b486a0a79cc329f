import assert from 'node:assert/strict';
import type { V1PersistentVolumeClaim, V1StorageClass } from '@kubernetes/client-node';
import { createCapacityActivities } from '../../activities/kubernetes/capacity.js';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { createExecutionObserver } from '../../activities/kubernetes/executions.js';
import { createProvisionActivities } from '../../activities/kubernetes/provision.js';
import { createSweepActivities } from '../../activities/kubernetes/sweep.js';
import { createVolumeActivities } from '../../activities/kubernetes/volumes.js';
import type { ClaimRef, ReservedDirectory, UnpublishedItem } from '../../activities/types.js';
import type { NodeCapacity, VolumePlan } from '../../activities/types/provision.js';
import { provisionWorkflowId } from '../../workflows/task-queues.js';
import { useControlPlane } from './support/control-plane.js';
import { act, makeNamespace, rejects, type ActedAs } from './support/fixtures.js';

const HOSTPATH = 'kubevirt.io/hostpath-provisioner';
const CSI = 'kubevirt.io.hostpath-provisioner';

describe('plain claims on a real API server', function () {
  this.timeout(30_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  let kubernetes: Kubernetes;
  let namespace: string;
  let provision: ReturnType<typeof createProvisionActivities>;

  before(async () => {
    admin = plane().admin;
    kubernetes = createKubernetes(plane().control);
    provision = createProvisionActivities({ kubernetes });
    await makeClass('plain', { reclaimPolicy: 'Retain' });
    await makeClass('plain-csi', { provisioner: CSI });
    await makeClass('plain-nowhere', { parameters: { storagePool: 'nowhere' } });
    await makeClass('plain-foreign', { provisioner: 'example.com/other' });
  });
  after(async () => {
    const names = ['plain', 'plain-csi', 'plain-nowhere', 'plain-foreign'];
    await plane().kubectl('delete', 'storageclass', ...names);
  });
  beforeEach(async () => {
    namespace = await makeNamespace(admin);
  });

  async function makeClass(name: string, more: Partial<V1StorageClass> = {}): Promise<void> {
    const body = { metadata: { name }, provisioner: HOSTPATH, volumeBindingMode: 'Immediate', ...more };
    await admin.storage.createStorageClass({ body });
  }

  async function makeClaim(
    storageClassName = 'plain',
    spec: V1PersistentVolumeClaim['spec'] = {},
    annotations: Record<string, string> = {},
  ): Promise<ClaimRef> {
    const name = 'data';
    const made = await admin.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: { name, annotations },
        spec: {
          accessModes: ['ReadWriteOnce'],
          storageClassName,
          resources: { requests: { storage: '1Gi' } },
          ...spec,
        },
      },
    });
    return { namespace, name, uid: made.metadata!.uid! };
  }

  /** Events of dvflow about the claim; Kubernetes has its own. */
  async function eventsOf({ uid }: ClaimRef) {
    const { items } = await admin.core.listNamespacedEvent({ namespace });
    return items
      .filter(({ involvedObject, source }) => involvedObject.uid === uid && source?.component === 'dvflow')
      .map(({ type, reason, message, count }) => [type, reason, message, count]);
  }

  const planOf = async (claim: ClaimRef, run: ActedAs = {}) =>
    await act(provision.planVolume, [{ claim }], { workflowId: provisionWorkflowId(claim), ...run });

  const directoryOf = (claim: ClaimRef): ReservedDirectory => ({
    node: 'node01',
    hostname: 'node01.example',
    pool: plane().info.pool,
    directory: `pvc-${claim.uid}`,
    dataVolume: claim,
    promisedBytes: 1 << 30,
  });

  it('plans the volume by claim, class and pool, and says so once however often it is done', async () => {
    const claim = await makeClaim();
    const expected: VolumePlan = {
      storageClass: 'plain',
      provisioner: HOSTPATH,
      reclaimPolicy: 'Retain',
      waitForConsumer: false,
      accessModes: ['ReadWriteOnce'],
      volumeMode: 'Filesystem',
      requestBytes: 1 << 30,
      pool: { name: 'legacy', path: plane().info.pool, useNamingPrefix: false },
    };
    assert.deepEqual(await planOf(claim), { plan: expected });
    await planOf(claim, { attempt: 2 });
    assert.deepEqual(await eventsOf(claim), [
      [
        'Normal',
        'Provisioning',
        `External provisioner is provisioning volume for claim "${namespace}/data"`,
        1,
      ],
    ]);
  });

  it('is for the workflow of the claim’s uid alone: another one is refused, and says nothing on the claim', async () => {
    const claim = await makeClaim();
    const other = { workflowId: 'start-workflow-like-this-one' };
    const served = new RegExp(`claim ${namespace}/data is served by workflow ${provisionWorkflowId(claim)}`);
    await rejects(planOf(claim, other), 'ResourceExists', served);
    const event = { type: 'Warning', reason: 'ProvisioningFailed', message: 'x' } as const;
    await act(provision.recordClaimEvent, [{ claim, event }], other);
    assert.deepEqual(await eventsOf(claim), []);
  });

  it('takes a class of the CSI name too', async () => {
    const { plan } = await planOf(await makeClaim('plain-csi'));
    assert.equal(plan?.provisioner, CSI);
    assert.equal(plan.reclaimPolicy, 'Delete');
  });

  it('refuses a Block claim in the words of hostpath-provisioner, on the claim', async () => {
    const claim = await makeClaim('plain', { volumeMode: 'Block' });
    const refused = `${HOSTPATH} does not support block volume provisioning`;
    assert.deepEqual(await planOf(claim), { refused });
    assert.deepEqual(await eventsOf(claim), [['Warning', 'ProvisioningFailed', refused, 1]]);
  });

  it('names what an administrator has to make first', async () => {
    const { missing } = await planOf(await makeClaim('plain-nowhere'));
    assert.match(
      missing ?? '',
      /^StorageClass "plain-nowhere" cannot be served: its parameter storagePool is nowhere, and the pools are legacy/,
    );
    namespace = await makeNamespace(admin);
    assert.deepEqual(await planOf(await makeClaim('plain-absent')), {
      missing: 'StorageClass "plain-absent" does not exist',
    });
  });

  it('has nothing to do with claims of others, of data, and of no more', async () => {
    const filled = await makeClaim('plain', {}, { 'cdi.kubevirt.io/storage.upload.target': '' });
    assert.deepEqual(await planOf(filled), { done: 'the claim waits for data' });
    assert.deepEqual(await planOf({ ...filled, uid: 'other' }), { done: 'the claim is gone' });
    namespace = await makeNamespace(admin);
    const foreign = await makeClaim('plain-foreign');
    assert.deepEqual(await planOf(foreign), {
      done: 'StorageClass "plain-foreign" belongs to provisioner example.com/other',
    });
    assert.deepEqual(await eventsOf(foreign), []);
  });

  it('publishes an empty volume for the claim, leaves no mark, and does not touch the claim', async () => {
    const claim = await makeClaim();
    const { publishVolume } = createVolumeActivities({ kubernetes });
    const { plan } = await planOf(claim);
    const publication = { dataVolume: claim, claim, target: plan!, directory: directoryOf(claim) };
    const name = `pvc-${claim.uid}`;
    assert.deepEqual(await act(publishVolume, [publication]), { volume: name });
    assert.deepEqual(await act(publishVolume, [publication], { attempt: 2 }), { volume: name });
    const { metadata, spec } = await admin.core.readPersistentVolume({ name });
    assert.equal(spec?.persistentVolumeReclaimPolicy, 'Retain');
    assert.equal(spec.claimRef?.uid, claim.uid);
    assert.deepEqual(
      Object.keys({ ...metadata?.labels, ...metadata?.annotations }).filter((key) => key.includes('dvflow')),
      [],
    );
    const bound = await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name: 'data' });
    assert.equal(bound.status?.phase, 'Bound');
    assert.deepEqual(await planOf(claim), { done: 'the claim has a volume or is being deleted' });
    await plane().kubectl('delete', 'pvc', 'data', '-n', namespace);
    await plane().kubectl('delete', 'pv', name);
  });

  it('leaves the directory of a claim that lives to its workflow, and sweeps that of one that is gone', async () => {
    const claim = await makeClaim();
    const { judgeUnpublished } = createSweepActivities({
      kubernetes,
      executions: createExecutionObserver(plane().temporal),
      transferNamespace: 'dvflow-transfers',
      graceMs: -10_000,
    });
    const left: UnpublishedItem = {
      kind: 'Directory',
      where: 'node01',
      name: `pvc-${claim.uid}`,
      pool: plane().info.pool,
      dataVolume: claim,
      // Temporal has forgotten it, if it ever was
      workflowId: `provision/${namespace}/data/${claim.uid}`,
      createdAt: new Date(Date.now() - 60_000).toISOString(),
    };
    assert.deepEqual(await act(judgeUnpublished, [{ items: [left] }]), []);
    await plane().kubectl('delete', 'pvc', 'data', '-n', namespace);
    assert.deepEqual(await act(judgeUnpublished, [{ items: [left] }]), [left]);
  });

  it("counts what was asked of hostpath-provisioner's volumes, which it says are as large as the pool", async () => {
    const claim = await makeClaim();
    const name = `pvc-${claim.uid}`;
    const { node, pool } = plane().info;
    await admin.core.createPersistentVolume({
      body: {
        metadata: { name, annotations: { hostPathProvisionerIdentity: HOSTPATH } },
        spec: {
          accessModes: ['ReadWriteOnce'],
          capacity: { storage: '79Gi' },
          storageClassName: 'plain',
          persistentVolumeReclaimPolicy: 'Retain',
          hostPath: { path: `${pool}/${name}` },
          claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...claim },
          nodeAffinity: {
            required: {
              nodeSelectorTerms: [
                { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node] }] },
              ],
            },
          },
        },
      },
    });
    const { listNodePools } = createCapacityActivities({ kubernetes });
    const found = (await act(listNodePools, [])).find(({ pool: { path } }) => path === pool);
    assert.deepEqual([found?.node, found?.foreignBytes], [node, 1 << 30]);
    await plane().kubectl('delete', 'pvc', 'data', '-n', namespace);
    await plane().kubectl('delete', 'pv', name);
  });

  it('parameters of a class cannot be changed: the API server itself refuses', async () => {
    for (const change of ['{"parameters":{"storagePool":"other"}}', '{"parameters":null}']) {
      const patched = plane().kubectl('patch', 'storageclass', 'plain-nowhere', '--type=merge', '-p', change);
      await assert.rejects(patched, /parameters: Forbidden: updates to parameters are forbidden/);
    }
    const found = await admin.storage.readStorageClass({ name: 'plain-nowhere' });
    assert.deepEqual(found.parameters, { storagePool: 'nowhere' });
  });

  describe('room for the scheduler', () => {
    const capacities = (roomBytes: number | undefined, hostname = 'host-a'): NodeCapacity[] => [
      {
        node: 'a',
        hostname,
        foreignBytes: 0,
        pool: { name: 'legacy', path: plane().info.pool, useNamingPrefix: false },
        ...(roomBytes === undefined
          ? {}
          : { facts: { node: 'a', roomBytes, totalBytes: 9e9, promisedBytes: 0, availableBytes: 8e9 } }),
      },
    ];
    const published = async () =>
      (await admin.storage.listNamespacedCSIStorageCapacity({ namespace: 'dvflow' })).items
        .filter(({ storageClassName }) => storageClassName.startsWith('plain'))
        .map(({ storageClassName, capacity, nodeTopology }) => [
          storageClassName,
          capacity,
          nodeTopology?.matchLabels,
        ]);
    const publish = async (found: readonly NodeCapacity[], attempt = 1) =>
      await act(createCapacityActivities({ kubernetes }).publishCapacity, [{ capacities: found }], {
        attempt,
      });

    it('is told for classes of the CSI name only, follows what the nodes say, and goes with them', async () => {
      const host = (name: string) => ({ 'kubernetes.io/hostname': name });
      await publish(capacities(5 << 20));
      await publish(capacities(5 << 20), 2);
      assert.deepEqual(await published(), [['plain-csi', '5Mi', host('host-a')]]);
      await publish(capacities(3 << 20));
      assert.deepEqual(await published(), [['plain-csi', '3Mi', host('host-a')]]);
      await publish(capacities(3 << 20, 'host-b'));
      assert.deepEqual(await published(), [['plain-csi', '3Mi', host('host-b')]]);
      await publish(capacities(undefined, 'host-b'));
      assert.deepEqual(await published(), []);
    });

    it('cannot be read for the other name: no CSIDriver can have it', async () => {
      const body = { metadata: { name: HOSTPATH }, spec: { storageCapacity: true } };
      await assert.rejects(admin.storage.createCSIDriver({ body }), { code: 422 });
      const { spec } = await admin.storage.readCSIDriver({ name: CSI });
      assert.equal(spec.storageCapacity, true);
    });
  });
});
