import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { V1PersistentVolume, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { createClaimActivities } from '../../activities/kubernetes/claims.js';
import { createKubernetes, MERGE_PATCH } from '../../activities/kubernetes/client.js';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { createCloneActivities } from '../../activities/kubernetes/clone/index.js';
import { dataVolumePath } from '../../activities/kubernetes/data-volumes.js';
import { createReservationActivities } from '../../activities/kubernetes/reservations.js';
import { createSweepActivities } from '../../activities/kubernetes/sweep.js';
import { createClaimPlanner, createTargetActivities } from '../../activities/kubernetes/targets.js';
import type { DataVolumeRef } from '../../activities/types.js';
import { awaitQuota } from '../support/quota.js';
import { useControlPlane } from './support/control-plane.js';
import {
  act,
  createDataVolume,
  deleteVolumes,
  ensurePool,
  makeNamespace,
  manifest,
  refOf,
  rejects,
} from './support/fixtures.js';

const KEPT = { 'cdi.kubevirt.io/storage.checkStaticVolume': '' };
const POPULATED_FOR = 'cdi.kubevirt.io/storage.populatedFor';

describe('volumes that are kept for a claim with their data, on a real API server', function () {
  this.timeout(60_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  let namespace: string;
  let dvflow: ReturnType<typeof createTargetActivities> &
    ReturnType<typeof createClaimActivities> &
    ReturnType<typeof createReservationActivities> &
    ReturnType<typeof createSweepActivities> &
    ReturnType<typeof createCloneActivities>;

  before(async () => {
    admin = plane().admin;
    await ensurePool(admin);
    // with the rights of the control role, no more
    const kubernetes = createKubernetes(plane().control);
    const planClaim = createClaimPlanner(kubernetes);
    const resolve = async ({ dataVolume }: { dataVolume: DataVolumeRef }) =>
      ({ source: { kind: 'pvc', namespace: dataVolume.namespace, name: 'gone' } }) as const;
    dvflow = {
      ...createTargetActivities({ kubernetes, planClaim }),
      ...createClaimActivities({ kubernetes }),
      ...createReservationActivities({ kubernetes, transferNamespace: 'dvflow-transfers' }),
      ...createCloneActivities({ kubernetes, planClaim, resolve }),
      ...createSweepActivities({
        kubernetes,
        executions: { stateOf: async () => 'closed', transferredBytes: async () => 0 } as never,
        transferNamespace: 'dvflow-transfers',
        graceMs: 0,
      }),
    };
  });
  beforeEach(async () => {
    namespace = await makeNamespace(admin);
  });
  afterEach(async () => {
    await deleteVolumes(admin, `test=${namespace}`);
  });

  /** As a backup tool or an administrator makes it again, of a driver that dvflow knows nothing of. */
  async function keepVolume(claim: string, spec: Partial<V1PersistentVolume['spec']> = {}): Promise<string> {
    const name = `kept-${claim}-${namespace}`;
    await admin.core.createPersistentVolume({
      body: {
        metadata: { name, labels: { test: namespace } },
        spec: {
          accessModes: ['ReadWriteMany', 'ReadWriteOnce'],
          capacity: { storage: '1Gi' },
          storageClassName: `san-${namespace}`,
          persistentVolumeReclaimPolicy: 'Delete',
          csi: { driver: 'san.example', volumeHandle: name },
          claimRef: { namespace, name: claim },
          ...spec,
        },
      },
    });
    return name;
  }

  const create = async (
    name: string,
    spec: object = {},
    annotations: object = KEPT,
  ): Promise<DataVolumeRef> =>
    refOf(
      await createDataVolume(
        admin,
        manifest(
          namespace,
          name,
          { storage: { resources: { requests: { storage: '1Gi' } } }, ...spec },
          {
            ...annotations,
          },
        ),
      ),
    );

  const read = async (name: string): Promise<V1PersistentVolumeClaim | undefined> =>
    await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name }).catch(() => undefined);

  const awaitBound = async (name: string): Promise<V1PersistentVolumeClaim> => {
    for (let waited = 0; waited < 20_000; waited += 100) {
      const found = await read(name);
      if (found?.status?.phase === 'Bound') return found;
      await sleep(100);
    }
    return assert.fail(`claim ${name} is not Bound`);
  };

  it('makes the claim without an owner or a mark, waits until it is Bound, says whose data it holds, and adopts it', async () => {
    const volume = await keepVolume('vm1');
    const dataVolume = await create('vm1');
    const { claim, waiting } = await act(dvflow.planTarget, [{ dataVolume }]);
    assert.deepEqual([claim, waiting?.reason], ['wait', 'Pending']);
    assert.match(
      waiting?.message ?? '',
      new RegExp(`to be Bound to PersistentVolume ${volume}, which is kept`),
    );
    const made = await read('vm1');
    assert.deepEqual(
      [made?.spec?.volumeName, made?.spec?.storageClassName, made?.spec?.volumeMode],
      [volume, `san-${namespace}`, 'Filesystem'],
    );
    assert.deepEqual(made?.spec?.accessModes, ['ReadWriteMany', 'ReadWriteOnce']);
    // an overhead that was another one when the volume was made is no reason
    assert.deepEqual(made?.spec?.resources?.requests, { storage: '1Gi' });
    assert.equal(made?.metadata?.ownerReferences, undefined);
    assert.doesNotMatch(JSON.stringify(made?.metadata), /dvflow\.io\//);
    await awaitBound('vm1');
    const target = await act(dvflow.planTarget, [{ dataVolume }]);
    assert.deepEqual([target.claim, target.adoptUid], ['adopt', made?.metadata?.uid]);
    const { annotations = {} } = (await read('vm1'))?.metadata ?? {};
    assert.equal(annotations[POPULATED_FOR], 'vm1');
    assert.equal(annotations['cdi.kubevirt.io/storage.persistentVolumeList'], undefined);
    const adopted = await act(dvflow.adoptClaim, [{ dataVolume, claimUid: target.adoptUid ?? '' }]);
    assert.equal(adopted.volume, volume);
    assert.equal((await read('vm1'))?.metadata?.ownerReferences?.[0]?.uid, dataVolume.uid);
  });

  for (const [what, source] of [
    ['an upload', { upload: {} }],
    ['a blank disk', { blank: {} }],
    ['a clone, whose source may be gone', { pvc: { namespace: 'nowhere', name: 'gone' } }],
  ] as const) {
    it(`so for ${what}`, async () => {
      await keepVolume('vm1');
      const dataVolume = await create('vm1', { source });
      const look = 'pvc' in source ? dvflow.judgeTarget : dvflow.planTarget;
      assert.equal((await act(look, [{ dataVolume }])).claim, 'wait');
      assert.equal(
        (await awaitBound('vm1')).metadata?.annotations?.['cdi.kubevirt.io/storage.upload.target'],
        undefined,
      );
      assert.equal((await act(look, [{ dataVolume }])).claim, 'adopt');
    });
  }

  it('tells a clone that waits for its source of a volume that comes meanwhile', async () => {
    const dataVolume = await create('vm1', { source: { pvc: { namespace, name: 'gone' } } });
    const look = async () => await act(dvflow.findCloneOrigin, [{ dataVolume }]);
    const before = await look();
    assert.ok(before.waiting && before.kept === undefined);
    await keepVolume('vm1');
    const after = await look();
    assert.ok(after.waiting && after.kept);
    await act(dvflow.judgeTarget, [{ dataVolume }]);
    const claimed = await look();
    assert.ok(claimed.waiting && claimed.kept === undefined);
  });

  it('takes a block volume as one', async () => {
    await keepVolume('vm1', { volumeMode: 'Block' });
    const storage = { resources: { requests: { storage: '512Mi' } } };
    await act(dvflow.planTarget, [{ dataVolume: await create('vm1', { storage }) }]);
    const { spec } = await awaitBound('vm1');
    assert.deepEqual([spec?.volumeMode, spec?.resources?.requests], ['Block', { storage: '512Mi' }]);
  });

  it('keeps the volume whatever becomes of the run and of the DataVolume before it is adopted', async () => {
    const volume = await keepVolume('vm1');
    const first = await create('vm1');
    await act(dvflow.planTarget, [{ dataVolume: first }]);
    await awaitBound('vm1');
    // the run fails, or is cancelled
    await act(dvflow.deleteClaim, [{ dataVolume: first, claim: { namespace, name: 'vm1', uid: '' } }]);
    await admin.custom.deleteNamespacedCustomObject({ ...dataVolumePath(namespace), name: 'vm1' });
    // the garbage collector takes a second or so
    await sleep(3_000);
    const left = await dvflow.listUnpublished();
    assert.deepEqual(
      left.filter(({ where, name }) => where === namespace || name === volume),
      [],
    );
    assert.equal((await admin.core.readPersistentVolume({ name: volume })).status?.phase, 'Bound');
    const second = await create('vm1');
    assert.equal((await act(dvflow.planTarget, [{ dataVolume: second }])).claim, 'adopt');
    assert.equal(
      (await read('vm1'))?.metadata?.annotations?.['cdi.kubevirt.io/createdForDataVolume'],
      second.uid,
    );
  });

  it('keeps a volume that comes after the claim was made: the run lets it go, and the next one takes it', async () => {
    const storage = {
      resources: { requests: { storage: '512Mi' } },
      storageClassName: 'hostpath-provisioner',
    };
    const dataVolume = await create('vm1', { storage, source: { upload: {} } });
    const target = await act(dvflow.planTarget, [{ dataVolume }]);
    const claim = await act(dvflow.ensureClaim, [{ dataVolume, target }]);
    const volume = await keepVolume('vm1', { storageClassName: 'hostpath-provisioner' });
    assert.equal((await awaitBound('vm1')).spec?.volumeName, volume);
    await act(dvflow.deleteClaim, [{ dataVolume, claim: { ...claim, uid: '' } }]);
    const { metadata } = (await read('vm1')) ?? {};
    assert.deepEqual([metadata?.deletionTimestamp, metadata?.ownerReferences], [undefined, undefined]);
    assert.doesNotMatch(JSON.stringify(metadata), /"dvflow\.io\/|upload\.target/);
    assert.equal((await act(dvflow.planTarget, [{ dataVolume }])).adoptUid, claim.uid);
    assert.equal((await read('vm1'))?.metadata?.annotations?.[POPULATED_FOR], 'vm1');
  });

  it('deletes no claim that got a volume of somebody else, whoever chose it, and takes none for a disk', async () => {
    const storage = {
      resources: { requests: { storage: '512Mi' } },
      storageClassName: 'hostpath-provisioner',
    };
    for (const [name, annotations, claimRef] of [
      ['named', {}, { namespace, name: 'named' }],
      ['chosen', KEPT, undefined],
    ] as const) {
      const dataVolume = await create(name, { storage }, annotations);
      const target = await act(dvflow.planTarget, [{ dataVolume }]);
      const claim = await act(dvflow.ensureClaim, [{ dataVolume, target }]);
      const volume = await keepVolume(name, {
        storageClassName: 'hostpath-provisioner',
        claimRef: claimRef ?? (undefined as never),
      });
      // Kubernetes chooses the claim for a volume that is nobody's
      const patch = JSON.stringify({ spec: { volumeName: volume } });
      if (!claimRef) await plane().kubectl('patch', 'pvc', name, '-n', namespace, '-p', patch);
      await awaitBound(name);
      await act(dvflow.deleteClaim, [{ dataVolume, claim }]);
      assert.equal((await read(name))?.metadata?.ownerReferences, undefined);
      await rejects(act(dvflow.planTarget, [{ dataVolume }]), 'ResourceExists', /is not managed by/);
    }
  });

  it('replaces no volume that is kept and does not fit by another, and says why', async () => {
    const volume = await keepVolume('vm1');
    const storage = { resources: { requests: { storage: '2Gi' } } };
    await rejects(
      act(dvflow.planTarget, [{ dataVolume: await create('vm1', { storage }) }]),
      'IncompatiblePVC',
      new RegExp(
        `${volume} is kept for claim ${namespace}/vm1, which cannot have it: it has 1073741824 bytes`,
      ),
    );
    assert.equal(await read('vm1'), undefined);
  });

  it('fills as without the annotation where no volume is kept: of another claim, or of an earlier one of the name', async () => {
    await keepVolume('vm2');
    const uid = '00000000-0000-0000-0000-000000000000';
    await keepVolume('vm1', {
      claimRef: { namespace, name: 'vm1', uid },
      persistentVolumeReclaimPolicy: 'Retain',
    });
    const target = await act(dvflow.planTarget, [{ dataVolume: await create('vm1') }]);
    assert.deepEqual([target.claim, target.staticVolume], ['create', undefined]);
  });

  it('takes no volume for a disk that is being filled, or was left half filled', async () => {
    const name = await keepVolume('vm1');
    const labels = { 'dvflow.io/unpublished': '00000000-0000-0000-0000-000000000000' };
    const { core } = createKubernetes(plane().control);
    await core.patchPersistentVolume({ name, body: { metadata: { labels } } }, MERGE_PATCH);
    const dataVolume = await create('vm1');
    await rejects(act(dvflow.planTarget, [{ dataVolume }]), 'IncompatiblePVC', /is reserved for claim/);
    assert.equal(await read('vm1'), undefined);
  });

  it('makes no claim while somebody else is to make it', async () => {
    await keepVolume('vm1');
    const dataVolume = await create('vm1', {}, { ...KEPT, 'cdi.kubevirt.io/storage.prePopulated': 'vm1' });
    const { claim, waiting } = await act(dvflow.planTarget, [{ dataVolume }]);
    assert.deepEqual([claim, waiting], ['wait', undefined]);
    assert.equal(await read('vm1'), undefined);
  });

  it('waits while a quota is in the way', async () => {
    await keepVolume('vm1');
    const hard = { persistentvolumeclaims: '0' };
    const quota = { metadata: { name: 'none' }, spec: { hard } };
    await admin.core.createNamespacedResourceQuota({ namespace, body: quota });
    await awaitQuota(admin, namespace, { refuses: true });
    const dataVolume = await create('vm1');
    const { claim, waiting } = await act(dvflow.planTarget, [{ dataVolume }]);
    assert.deepEqual([claim, waiting?.reason], ['wait', 'ErrExceededQuota']);
  });

  it('never reserves such a volume to fill it, where it comes after the plan, and asks for a new one', async () => {
    const storage = {
      resources: { requests: { storage: '512Mi' } },
      volumeName: `kept-vm1-${namespace}`,
      accessModes: ['ReadWriteOnce'],
    };
    const dataVolume = await create('vm1', { storage });
    const target = await act(dvflow.planTarget, [{ dataVolume }]);
    assert.equal(target.staticVolume, true);
    const reserve = async () => await act(dvflow.reserveVolume, [{ dataVolume, target }]);
    const before = await reserve();
    assert.ok('waitFor' in before && before.kept === undefined);
    const terms = [{ key: 'kubernetes.io/hostname', operator: 'In', values: [plane().info.node] }];
    const volume = await keepVolume('vm1', {
      csi: undefined as never,
      local: { path: `/srv/${namespace}` },
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: terms }] } },
    });
    const after = await reserve();
    assert.ok('waitFor' in after && after.kept, JSON.stringify(after));
    assert.equal((await admin.core.readPersistentVolume({ name: volume })).spec?.claimRef?.name, 'vm1');
    assert.equal((await act(dvflow.planTarget, [{ dataVolume }])).claim, 'wait');
  });

  it('believes no list of volumes on a claim that is being filled', async () => {
    const list = { 'cdi.kubevirt.io/storage.persistentVolumeList': '["any"]' };
    const dataVolume = await create('vm1', {}, { ...KEPT, ...list });
    const target = await act(dvflow.planTarget, [{ dataVolume }]);
    await act(dvflow.ensureClaim, [{ dataVolume, target }]);
    assert.equal((await act(dvflow.planTarget, [{ dataVolume }])).claim, 'create');
  });
});
