import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CoreV1Event } from '@kubernetes/client-node';
import { createClaimActivities } from '../../activities/kubernetes/claims.js';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { createNodeActivities } from '../../activities/kubernetes/nodes.js';
import { createReclaimActivities } from '../../activities/kubernetes/reclaim.js';
import { keepFinalizer } from '../../activities/kubernetes/volume-finalizer.js';
import { createVolumeActivities } from '../../activities/kubernetes/volumes.js';
import type { ClaimRef, TargetPlan } from '../../activities/types.js';
import { useControlPlane } from './support/control-plane.js';
import {
  act,
  createDataVolume,
  ensurePool,
  makeNamespace,
  manifest,
  POOL,
  refOf,
  rejects,
  TARGET,
} from './support/fixtures.js';

const RETAIN = JSON.stringify({ spec: { persistentVolumeReclaimPolicy: 'Retain' } });

describe('nodes and released volumes on a real API server', function () {
  this.timeout(30_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  let kubernetes: Kubernetes;
  let namespace: string;
  let node: string;
  let reclaim: ReturnType<typeof createReclaimActivities>;
  let nodes: ReturnType<typeof createNodeActivities>;

  before(async () => {
    admin = plane().admin;
    kubernetes = createKubernetes(plane().control);
    reclaim = createReclaimActivities({ kubernetes });
    nodes = createNodeActivities({ kubernetes });
    await ensurePool(admin);
    node = plane().info.node;
  });
  beforeEach(async () => {
    namespace = await makeNamespace(admin);
  });

  const makeClaim = async (target: TargetPlan = TARGET, annotations = {}): Promise<ClaimRef> => {
    const dataVolume = refOf(await createDataVolume(admin, manifest(namespace, 'vm1', {}, annotations)));
    return await act(createClaimActivities({ kubernetes }).ensureClaim, [{ dataVolume, target }]);
  };
  /** A published volume whose claim was deleted. */
  const release = async (
    target: TargetPlan = TARGET,
    pool = POOL.path,
    hostname = node,
  ): Promise<{ name: string; uid: string }> => {
    const claim = await makeClaim(target);
    const dataVolume = { namespace, name: 'vm1', uid: 'x' };
    const directory = {
      node,
      hostname,
      pool,
      directory: `pvc-${claim.uid}`,
      dataVolume,
      promisedBytes: 1,
    };
    const { volume: name } = await act(createVolumeActivities({ kubernetes }).publishVolume, [
      { dataVolume, claim, target, directory },
    ]);
    await plane().kubectl('delete', 'pvc', 'vm1', '-n', namespace);
    for (let waited = 0; waited < 10_000; waited += 100) {
      const volume = await admin.core.readPersistentVolume({ name });
      if (volume.status?.phase === 'Released') return { name, uid: volume.metadata?.uid ?? '' };
      await sleep(100);
    }
    throw new Error(`${name} was not released`);
  };

  const eventsOf = async ({ uid }: { uid: string }): Promise<CoreV1Event[]> => {
    const { items } = await admin.core.listNamespacedEvent({ namespace: 'default' });
    return items.filter(({ involvedObject }) => involvedObject.uid === uid);
  };

  it('says where the data of a released volume is, and deletes the object, by uid', async () => {
    const volume = await release();
    assert.deepEqual(await act(reclaim.observeReleasedVolume, [volume]), {
      volume: { ...volume, node, path: `${POOL.path}/${volume.name}`, pool: POOL },
    });
    assert.deepEqual(await act(reclaim.observeReleasedVolume, [{ ...volume, uid: 'other' }]), {});
    await act(reclaim.deleteVolume, [{ ...volume, uid: '00000000-0000-4000-8000-000000000000' }]);
    assert.equal(
      (await admin.core.readPersistentVolume({ name: volume.name })).metadata?.deletionTimestamp,
      undefined,
    );
    await act(reclaim.deleteVolume, [volume]);
    await act(reclaim.deleteVolume, [volume], { attempt: 2 });
    // Kubernetes takes its own protection off a moment later
    const gone = async (): Promise<boolean> =>
      await admin.core.readPersistentVolume({ name: volume.name }).then(
        () => false,
        (error: { code?: number }) => error.code === 404,
      );
    for (let waited = 0; waited < 10_000 && !(await gone()); waited += 100) await sleep(100);
    assert.ok(await gone());
    assert.deepEqual(await act(reclaim.observeReleasedVolume, [volume]), {});
  });

  it('leaves Retain, Bound, foreign and outlying volumes alone', async () => {
    const retained = await release({ ...TARGET, reclaimPolicy: 'Retain' });
    assert.deepEqual(await act(reclaim.observeReleasedVolume, [retained]), {});
    namespace = await makeNamespace(admin);
    const outlying = await release(TARGET, `${POOL.path}/deeper`);
    assert.deepEqual(await act(reclaim.observeReleasedVolume, [outlying]), {
      waiting: `${POOL.path}/deeper/${outlying.name} is not removed: it lies directly in no pool of a HostPathProvisioner`,
    });
    assert.deepEqual(await eventsOf(retained), []);
    namespace = await makeNamespace(admin);
    const foreign = await release();
    await plane().kubectl(
      'annotate',
      '--overwrite',
      'pv',
      foreign.name,
      'hostPathProvisionerIdentity=kubevirt.io/hostpath-provisioner-node01',
    );
    assert.deepEqual(await act(reclaim.observeReleasedVolume, [foreign]), {});
    await plane().kubectl('patch', 'pv', outlying.name, '-p', RETAIN);
    for (const { name } of [outlying, foreign])
      await keepFinalizer(kubernetes, await admin.core.readPersistentVolume({ name }));
    await plane().kubectl('delete', 'pv', retained.name, outlying.name, foreign.name);
  });

  it('says why a volume could not be deleted', async () => {
    const volume = await release();
    const event = {
      ...volume,
      reason: 'VolumeFailedDelete',
      message: `node node01 does not answer (${volume.name})`,
    };
    await act(reclaim.recordVolumeEvent, [event]);
    await act(reclaim.recordVolumeEvent, [event], { attempt: 2 });
    const said = async () =>
      (await eventsOf(volume)).map(({ reason, count, type, message }) => [reason, count, type, message]);
    assert.deepEqual(await said(), [['VolumeFailedDelete', 1, 'Warning', event.message]]);
    // other figures of the same fact: counted, and the newest shown
    await act(reclaim.recordVolumeEvent, [{ ...event, message: 'later' }], { activityId: '2' });
    assert.deepEqual(await said(), [['VolumeFailedDelete', 2, 'Warning', 'later']]);
  });

  it('says that no node is there any more for a released volume', async () => {
    const volume = await release(TARGET, POOL.path, 'gone-node');
    assert.deepEqual(await act(reclaim.observeReleasedVolume, [volume]), {
      waiting:
        `${POOL.path}/${volume.name} is not removed: no node has the label kubernetes.io/hostname=gone-node; where the node is ` +
        `gone for good its data is too, and "kubectl delete pv ${volume.name}" releases the volume`,
    });
    await act(reclaim.deleteVolume, [volume]);
  });

  it('says at once that a claim was bound to the volume of somebody else', async () => {
    const claim = await makeClaim();
    const name = `foreign-${namespace}`;
    await admin.core.createPersistentVolume({
      body: {
        metadata: { name },
        spec: {
          accessModes: ['ReadWriteOnce'],
          capacity: { storage: '2Gi' },
          storageClassName: TARGET.storageClass,
          persistentVolumeReclaimPolicy: 'Retain',
          hostPath: { path: '/srv/foreign' },
          claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...claim },
        },
      },
    });
    const bound = async () =>
      (await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name: 'vm1' })).spec?.volumeName;
    for (let waited = 0; waited < 10_000 && !(await bound()); waited += 100) await sleep(100);
    await rejects(
      act(nodes.listCandidates, [{ claim, target: TARGET }]),
      'ClaimLost',
      new RegExp(`vm1 was bound to PersistentVolume ${name}, not to pvc-${claim.uid}$`),
    );
    await plane().kubectl('delete', 'pvc', 'vm1', '-n', namespace);
    await plane().kubectl('delete', 'pv', name);
  });

  it('lists nodes and pools', async () => {
    assert.deepEqual(await act(nodes.listNodes, []), {
      nodes: [node],
      pools: [{ name: 'legacy', path: plane().info.pool, useNamingPrefix: false }, POOL],
      placed: {},
    });
  });

  it('takes the node that the user names on the DataVolume', async () => {
    const claim = await makeClaim(TARGET, { 'kubevirt.io/provisionOnNode': node });
    assert.deepEqual(await act(nodes.listCandidates, [{ claim, target: TARGET }]), {
      candidates: [{ node, hostname: node, foreignBytes: 0 }],
      chosenBy: 'provisionOnNode',
      named: node,
    });
    await rejects(
      act(nodes.listCandidates, [{ claim: { ...claim, uid: 'other' }, target: TARGET }]),
      'ClaimLost',
    );
  });

  it('waits for no consumer any more once the DataVolume says so', async () => {
    const claim = await makeClaim();
    const target = { ...TARGET, waitForConsumer: true };
    const look = async () => (await act(nodes.listCandidates, [{ claim, target }])).immediate;
    assert.equal(await look(), undefined);
    const said = 'cdi.kubevirt.io/storage.bind.immediate.requested=';
    await plane().kubectl('annotate', 'dv', 'vm1', '-n', namespace, said);
    assert.equal(await look(), true);
  });

  it("answers the scheduler's choice without room by an event and by taking the choice back, once", async () => {
    const claim = await makeClaim();
    await plane().kubectl(
      'annotate',
      'pvc',
      'vm1',
      '-n',
      namespace,
      `volume.kubernetes.io/selected-node=${node}`,
    );
    assert.equal((await act(nodes.listCandidates, [{ claim, target: TARGET }])).chosenBy, 'selected-node');
    const refusal = { claim, node, roomBytes: 5, requestBytes: 7 };
    await act(nodes.refuseSelectedNode, [refusal]);
    await act(nodes.refuseSelectedNode, [refusal], { attempt: 2 });
    const selected = async () =>
      (await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name: 'vm1' })).metadata
        ?.annotations?.['volume.kubernetes.io/selected-node'];
    assert.equal(await selected(), undefined);
    const { items } = await admin.core.listNamespacedEvent({
      namespace,
      fieldSelector: 'reason=InsufficientCapacity',
    });
    assert.deepEqual(
      items.map(({ message, count }) => [message, count]),
      [[`node ${node} has room for 5 bytes, the claim requests 7`, 1]],
    );
    await plane().kubectl(
      'annotate',
      'pvc',
      'vm1',
      '-n',
      namespace,
      'volume.kubernetes.io/selected-node=node02',
    );
    await act(nodes.refuseSelectedNode, [refusal], { attempt: 3 });
    assert.equal(await selected(), 'node02');
  });
});
