import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { V1PersistentVolume } from '@kubernetes/client-node';
import { createClaimActivities } from '../../activities/kubernetes/claims.js';
import { createKubernetes, MERGE_PATCH } from '../../activities/kubernetes/client.js';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { createReservationActivities } from '../../activities/kubernetes/reservations.js';
import { createClaimPlanner, createTargetActivities } from '../../activities/kubernetes/targets.js';
import { createUploadClaimActivities } from '../../activities/kubernetes/upload-claims.js';
import { createVolumeActivities } from '../../activities/kubernetes/volumes.js';
import type { ReservedVolume } from '../../activities/types/local-volumes.js';
import type { ClaimRef, DataVolumeRef, TargetPlan } from '../../activities/types.js';
import { eventually } from '../live/world.js';
import { useControlPlane } from './support/control-plane.js';
import {
  act,
  createDataVolume,
  deleteVolumes,
  makeNamespace,
  manifest,
  refOf,
  rejects,
  rejectsForNow,
} from './support/fixtures.js';

const MARKED = /dvflow\.io\//;

/** What stays the same when a run asks again. */
const timeless = ({ reservedAt: _, ...rest }: ReservedVolume): object => rest;

describe('static volumes on a real API server', function () {
  this.timeout(60_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  let namespace: string;
  let dvflow: ReturnType<typeof createReservationActivities> &
    ReturnType<typeof createTargetActivities> &
    ReturnType<typeof createClaimActivities> &
    ReturnType<typeof createUploadClaimActivities> &
    ReturnType<typeof createVolumeActivities>;

  before(async () => {
    admin = plane().admin;
    // with the rights of the control role, no more
    const kubernetes = createKubernetes(plane().control);
    dvflow = {
      ...createReservationActivities({ kubernetes, transferNamespace: 'dvflow-transfers' }),
      ...createTargetActivities({ kubernetes, planClaim: createClaimPlanner(kubernetes) }),
      ...createClaimActivities({ kubernetes }),
      ...createUploadClaimActivities({ kubernetes, executions: { stateOf: async () => 'closed' } }),
      ...createVolumeActivities({ kubernetes }),
    };
  });
  beforeEach(async () => {
    namespace = await makeNamespace(admin);
  });
  afterEach(async () => {
    await deleteVolumes(admin, `test=${namespace}`);
  });

  /** A block volume on the stack's node, of a class of its own that no StorageClass object stands for, as in M6. */
  async function makeVolume(
    name: string,
    spec: Partial<V1PersistentVolume['spec']> = {},
    phase = 'Available',
  ): Promise<string> {
    const full = `${name}-${namespace}`;
    await admin.core.createPersistentVolume({
      body: {
        metadata: { name: full, labels: { test: namespace, kept: name } },
        spec: {
          accessModes: ['ReadWriteOnce'],
          capacity: { storage: '1Gi' },
          storageClassName: `class-${namespace}`,
          volumeMode: 'Block',
          persistentVolumeReclaimPolicy: 'Delete',
          local: { path: `/dev/${full}` },
          nodeAffinity: {
            required: {
              nodeSelectorTerms: [
                {
                  matchExpressions: [
                    { key: 'kubernetes.io/hostname', operator: 'In', values: [plane().info.node] },
                  ],
                },
              ],
            },
          },
          ...spec,
        },
      },
    });
    await awaitPhase(full, phase);
    return full;
  }

  const read = async (name: string) => await admin.core.readPersistentVolume({ name });

  async function awaitPhase(name: string, phase: string): Promise<V1PersistentVolume> {
    for (let waited = 0; waited < 20_000; waited += 100) {
      const found = await read(name);
      if (found.status?.phase === phase) return found;
      await sleep(100);
    }
    return assert.fail(`volume ${name} is ${(await read(name)).status?.phase}, not ${phase}`);
  }

  async function create(name: string, pvc: object = {}): Promise<DataVolumeRef> {
    const spec = {
      storage: undefined,
      pvc: {
        storageClassName: `class-${namespace}`,
        volumeMode: 'Block',
        accessModes: ['ReadWriteOnce'],
        resources: { requests: { storage: '1Gi' } },
        ...pvc,
      },
    };
    return refOf(await createDataVolume(admin, manifest(namespace, name, spec)));
  }

  const planOf = async (dataVolume: DataVolumeRef): Promise<TargetPlan> =>
    await act(dvflow.planTarget, [{ dataVolume }]);

  async function reserve(
    dataVolume: DataVolumeRef,
  ): Promise<{ target: TargetPlan; reserved: ReservedVolume }> {
    const target = await planOf(dataVolume);
    const reserved = await act(dvflow.reserveVolume, [{ dataVolume, target }]);
    assert.ok('volume' in reserved, JSON.stringify(reserved));
    return { target, reserved };
  }

  async function claimFor(
    dataVolume: DataVolumeRef,
  ): Promise<{ claim: ClaimRef; target: TargetPlan; reserved: ReservedVolume }> {
    const { target, reserved } = await reserve(dataVolume);
    const claim = await act(dvflow.ensureClaim, [{ dataVolume, target, reserved }]);
    return { claim, target, reserved };
  }

  it('plans without overhead for a device, without waiting for a consumer, and with none of the pools', async () => {
    await makeVolume('a');
    const target = await planOf(await create('vm1'));
    assert.deepEqual(
      [
        target.staticVolume,
        target.waitForConsumer,
        target.volumeMode,
        target.requestBytes,
        target.usableBytes,
      ],
      [true, false, 'Block', 2 ** 30, 2 ** 30],
    );
    assert.deepEqual([target.overhead, target.pool.path], [0, '']);
    const inflated = await create('vm2', { volumeMode: 'Filesystem' });
    const { usableBytes, overhead } = await planOf(inflated);
    assert.deepEqual([usableBytes, overhead], [1_012_924_416, 0.06]);
  });

  it('refuses a class that nobody made and no volume has, and a volume that can never serve', async () => {
    await rejects(act(dvflow.planTarget, [{ dataVolume: await create('vm1') }]), 'StorageClassNotFound');
    const small = await makeVolume('small', { capacity: { storage: '1Mi' } });
    const named = await create('vm2', { volumeName: small });
    await rejects(act(dvflow.planTarget, [{ dataVolume: named }]), 'IncompatiblePVC', /has 1048576 bytes/);
    const archive = manifest(namespace, 'vm3', {
      contentType: 'archive',
      storage: undefined,
      pvc: {
        storageClassName: `class-${namespace}`,
        volumeMode: 'Block',
        accessModes: ['ReadWriteOnce'],
        resources: { requests: { storage: '1Mi' } },
      },
    });
    const dataVolume = refOf(await createDataVolume(admin, archive));
    await rejects(act(dvflow.planTarget, [{ dataVolume }]), 'ContentTypeNotSupported');
  });

  it('reserves the volume so that no claim gets it, hands it over, and restores its policy: G1', async () => {
    const name = await makeVolume('a');
    const dataVolume = await create('vm1');
    const { claim, target, reserved } = await claimFor(dataVolume);
    assert.deepEqual(
      [reserved.volume, reserved.node, reserved.path],
      [name, plane().info.node, `/dev/${name}`],
    );
    // whoever asks again is told the same
    assert.deepEqual(timeless((await claimFor(dataVolume)).reserved), timeless(reserved));
    const held = await read(name);
    assert.deepEqual(
      [
        held.status?.phase,
        held.spec?.claimRef?.namespace,
        held.spec?.claimRef?.uid,
        held.spec?.persistentVolumeReclaimPolicy,
      ],
      ['Available', 'dvflow-transfers', undefined, 'Retain'],
    );
    const pending = await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name: 'vm1' });
    assert.deepEqual([pending.spec?.volumeName, pending.status?.phase], [name, 'Pending']);
    // a retry must not take the claim for one that has its disk
    assert.equal((await planOf(dataVolume)).claim, 'create');
    const publication = { dataVolume, claim, target, directory: reserved };
    const started = Date.now();
    for (const _ of [1, 2])
      assert.deepEqual(await act(dvflow.publishVolume, [publication]), { volume: name });
    assert.ok(
      Date.now() - started < 10_000,
      'a claim with volumeName is bound when it changes, not at the next resync',
    );
    const bound = await read(name);
    assert.deepEqual(
      [bound.status?.phase, bound.spec?.claimRef?.uid, bound.spec?.persistentVolumeReclaimPolicy],
      ['Bound', claim.uid, 'Delete'],
    );
    const published = await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name: 'vm1' });
    for (const { metadata } of [bound, published]) {
      const marks = { ...metadata?.labels, ...metadata?.annotations };
      assert.doesNotMatch(Object.keys(marks).join(' '), MARKED);
    }
    assert.equal(bound.metadata?.labels?.['kept'], 'a');
    // what is published is not taken back
    assert.deepEqual(await act(dvflow.withdrawVolume, [{ dataVolume }]), {});
    await act(dvflow.releaseVolume, [{ volume: reserved }]);
    assert.equal((await read(name)).spec?.claimRef?.uid, claim.uid);
  });

  it('gives two that want one volume at the same time to one of them, and tells the other why it waits', async () => {
    const name = await makeVolume('only');
    const both = [await create('vm1'), await create('vm2')];
    const plans = await Promise.all(both.map(planOf));
    const answers = await Promise.all(
      both.map((dataVolume, index) => act(dvflow.reserveVolume, [{ dataVolume, target: plans[index]! }])),
    );
    const [got] = answers.filter((answer) => 'volume' in answer);
    const [waits] = answers.filter((answer) => 'waitFor' in answer);
    assert.equal(got?.volume, name);
    assert.match(
      waits?.waitFor ?? '',
      new RegExp(`${name} is Available and has claimRef dvflow-transfers/reserved-|have just changed`),
    );
    const another = await makeVolume('another');
    const loser = both.find(({ uid }) => uid !== got?.dataVolume.uid)!;
    assert.equal((await reserve(loser)).reserved.volume, another);
  });

  it('is Available again with its policy after a withdrawal, once the claim is gone', async () => {
    const name = await makeVolume('a');
    const before = (await read(name)).metadata;
    const dataVolume = await create('vm1');
    const { claim, reserved } = await claimFor(dataVolume);
    await rejectsForNow(
      act(dvflow.withdrawVolume, [{ dataVolume }]),
      'KubernetesUnavailable',
      /claim .*vm1 is still there/,
    );
    await act(dvflow.deleteClaim, [{ dataVolume, claim }]);
    await awaitNoClaim('vm1');
    const { volume } = await act(dvflow.withdrawVolume, [{ dataVolume }]);
    assert.deepEqual(volume, reserved);
    assert.equal(reserved.reservedAt, (await read(name)).metadata?.annotations?.['dvflow.io/reserved-at']);
    for (const _ of [1, 2]) await act(dvflow.releaseVolume, [{ volume: reserved }]);
    const { metadata, spec } = await awaitPhase(name, 'Available');
    assert.deepEqual([spec?.claimRef, spec?.persistentVolumeReclaimPolicy], [undefined, 'Delete']);
    assert.deepEqual(
      [metadata?.labels, metadata?.annotations ?? {}],
      [before?.labels, before?.annotations ?? {}],
    );
    assert.deepEqual(await act(dvflow.withdrawVolume, [{ dataVolume }]), {});
  });

  it('stays with a retry that takes it over while a sweep empties it', async () => {
    const name = await makeVolume('a');
    const dataVolume = await create('vm1');
    const { reserved } = await reserve(dataVolume);
    const { volume: emptied } = await act(dvflow.withdrawVolume, [{ dataVolume }]);
    const { reserved: again } = await reserve(dataVolume);
    assert.deepEqual(timeless(again), timeless(reserved));
    assert.notEqual(again.reservedAt, emptied!.reservedAt, 'a node could not tell whose the volume is');
    await act(dvflow.releaseVolume, [{ volume: emptied! }]);
    assert.equal((await read(name)).spec?.claimRef?.name, `reserved-${dataVolume.uid}`);
    const { reservedAt } = emptied!;
    assert.deepEqual(await act(dvflow.withdrawVolume, [{ dataVolume, reservedAt: reservedAt! }]), {});
    const { volume } = await act(dvflow.withdrawVolume, [{ dataVolume }]);
    await act(dvflow.releaseVolume, [{ volume: volume! }]);
    await awaitPhase(name, 'Available');
    // what a node remembers of it is of before: somebody else might have had it by now
    const { reserved: anew } = await reserve(dataVolume);
    assert.equal(anew.tenure, anew.reservedAt);
    assert.ok(anew.tenure! > volume!.reservedAt!, `${anew.tenure} is not after ${volume!.reservedAt}`);
    assert.equal(volume!.tenure, reserved.tenure);
    assert.equal(reserved.tenure, reserved.reservedAt);
  });

  it('stays reserved where its node has been deleted, which the next run waits for', async () => {
    const node = `node-${namespace}`;
    const labels = { 'kubernetes.io/hostname': node };
    const ready = { conditions: [{ type: 'Ready', status: 'True' }] };
    await admin.core.createNode({ body: { metadata: { name: node, labels } } });
    // a patch: the node's controllers write to it as well
    await admin.core.patchNodeStatus({ name: node, body: { status: ready } }, MERGE_PATCH);
    const expression = { key: 'kubernetes.io/hostname', operator: 'In', values: [node] };
    const nodeAffinity = { required: { nodeSelectorTerms: [{ matchExpressions: [expression] }] } };
    const name = await makeVolume('a', { nodeAffinity });
    const dataVolume = await create('vm1');
    const { target, reserved } = await reserve(dataVolume);
    assert.equal(reserved.node, node);
    await admin.core.deleteNode({ name: node });
    const withdrawn = await act(dvflow.withdrawVolume, [{ dataVolume }]);
    const waiting = `PersistentVolume ${name} cannot be emptied: its node is not in the cluster`;
    assert.deepEqual(withdrawn, { waiting });
    const found = await act(dvflow.reserveVolume, [{ dataVolume, target }]);
    assert.match('waitFor' in found ? found.waitFor : '', /bring the node back, or delete the Persist/);
    await admin.core.deletePersistentVolume({ name });
    const another = await makeVolume('b');
    assert.equal((await reserve(dataVolume)).reserved.volume, another);
  });

  it('takes a volume back whose claim vanished while it was handed over', async () => {
    const name = await makeVolume('a');
    const dataVolume = await create('vm1');
    const { claim, target, reserved } = await claimFor(dataVolume);
    await act(dvflow.publishVolume, [{ dataVolume, claim, target, directory: reserved }]);
    // as if the run had died before the marks were removed
    const marks = {
      labels: { 'dvflow.io/unpublished': dataVolume.uid },
      annotations: { 'dvflow.io/reserved': JSON.stringify({ reclaimPolicy: 'Delete' }) },
    };
    const body = JSON.stringify({ metadata: marks, spec: { persistentVolumeReclaimPolicy: 'Retain' } });
    const as = '--as=system:serviceaccount:dvflow:dvflow-control';
    await plane().kubectl('patch', 'pv', name, as, '--type=merge', '-p', body);
    await admin.core.deleteNamespacedPersistentVolumeClaim({ namespace, name: 'vm1' });
    await awaitNoClaim('vm1');
    // Kubernetes writes the volume too: whoever meets that tries again
    await awaitPhase(name, 'Released');
    const withdrawn = await act(dvflow.withdrawVolume, [{ dataVolume }]);
    assert.equal(withdrawn.volume?.volume, name);
    assert.equal((await awaitPhase(name, 'Available')).spec?.claimRef?.name, `reserved-${dataVolume.uid}`);
    await act(dvflow.releaseVolume, [{ volume: withdrawn.volume }]);
    await awaitPhase(name, 'Available');
  });

  it('is lost when an administrator takes the volume away meanwhile', async () => {
    const name = await makeVolume('a');
    const dataVolume = await create('vm1');
    const { claim, target, reserved } = await claimFor(dataVolume);
    await plane().kubectl('patch', 'pv', name, '--type=merge', '-p', '{"spec":{"claimRef":{"name":"mine"}}}');
    const publication = { dataVolume, claim, target, directory: reserved };
    await rejects(act(dvflow.publishVolume, [publication]), 'ClaimLost', /was taken away or deleted/);
    await act(dvflow.deleteClaim, [{ dataVolume, claim }]);
    await awaitNoClaim('vm1');
    // it is somebody else's now: neither emptied nor taken back
    assert.deepEqual(await act(dvflow.withdrawVolume, [{ dataVolume }]), {});
    const { metadata, spec } = await read(name);
    assert.deepEqual([spec?.claimRef?.name, spec?.persistentVolumeReclaimPolicy], ['mine', 'Delete']);
    assert.deepEqual(metadata?.labels, { test: namespace, kept: 'a' });
  });

  it('is lost while it is filled, before and after Kubernetes has bound the claim, where it is deleted and applied again', async () => {
    const name = await makeVolume('a');
    const dataVolume = await create('vm1');
    const { claim, target, reserved } = await claimFor(dataVolume);
    // of a transfer, and of a run that waits for an upload
    const looks = [
      async (): Promise<unknown> => await act(dvflow.confirmClaim, [{ claim, volume: reserved }]),
      async (): Promise<unknown> =>
        await act(() => dvflow.confirmUploadTarget({ claim, directory: reserved }), []),
    ];
    const areLost = async (message: RegExp): Promise<void> => {
      for (const look of looks) await rejects(look(), 'ClaimLost', message);
    };
    for (const look of looks) await look();
    await deleteVolume(name);
    await areLost(/was taken away or deleted while it was filled/);
    // of no use to its claim yet
    await makeVolume('a', { claimRef: { namespace: 'default', name: 'nobody' } }, 'Available');
    await areLost(/was taken away or deleted while it was filled/);
    await deleteVolume(name);
    await makeVolume('a', {}, 'Bound');
    await awaitBoundClaim('vm1');
    // a run of before says nothing of its volume
    const early = /vm1 was bound to PersistentVolume a-.* before its disk was complete/;
    await rejects(act(dvflow.confirmClaim, [{ claim }]), 'ClaimLost', early);
    await areLost(early);
    const publication = { dataVolume, claim, target, directory: reserved };
    await rejects(act(dvflow.publishVolume, [publication]), 'ClaimLost', /was taken away or deleted/);
    const undone = await act(dvflow.deleteUnpublishedVolume, [{ dataVolume, claim, volume: reserved }]);
    assert.equal(undone, undefined, 'a half-written disk is kept for its claim');
    await act(dvflow.deleteClaim, [{ dataVolume, claim }]);
    await awaitNoClaim('vm1');
  });

  for (const [given, claimRef] of [
    ['to somebody else', { namespace: 'default', name: 'mine' }],
    ['free', null],
  ] as const) {
    it(`does not go on with a volume that an administrator has set ${given} since, nor empties it`, async () => {
      const name = await makeVolume('a');
      const dataVolume = await create('vm1');
      const { target, reserved } = await reserve(dataVolume);
      const give = async () => {
        const body = [{ op: 'replace', path: '/spec/claimRef', value: claimRef }];
        await plane().kubectl('patch', 'pv', name, '--type=json', '-p', JSON.stringify(body));
      };
      await give();
      await rejectsForNow(
        act(dvflow.reserveVolume, [{ dataVolume, target }]),
        'KubernetesUnavailable',
        /changed meanwhile/,
      );
      const lost = await read(name);
      assert.deepEqual(
        [lost.spec?.claimRef?.name, lost.spec?.persistentVolumeReclaimPolicy, lost.metadata?.labels],
        [claimRef?.name, 'Delete', { test: namespace, kept: 'a' }],
      );
      const again = await act(dvflow.reserveVolume, [{ dataVolume, target }]);
      if (claimRef) return assert.match('waitFor' in again ? again.waitFor : '', /claimRef default\/mine/);
      assert.ok('volume' in again && again.tenure !== reserved.tenure);
      await give();
      assert.deepEqual(await act(dvflow.withdrawVolume, [{ dataVolume }]), {});
      assert.equal((await read(name)).metadata?.labels?.['dvflow.io/unpublished'], undefined);
    });
  }

  /** It is gone when a controller has taken its finalizer off. */
  async function deleteVolume(name: string): Promise<void> {
    await admin.core.deletePersistentVolume({ name });
    await eventually(`the end of volume ${name}`, 20_000, async () => {
      const { items } = await admin.core.listPersistentVolume({ fieldSelector: `metadata.name=${name}` });
      return items.length === 0 ? true : undefined;
    });
  }

  /** Kubernetes binds the volume first. */
  async function awaitBoundClaim(name: string): Promise<void> {
    await eventually(`claim ${name} to be Bound`, 20_000, async () => {
      const { status } = await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name });
      return status?.phase === 'Bound' ? true : undefined;
    });
  }

  async function awaitNoClaim(name: string): Promise<void> {
    for (let waited = 0; waited < 20_000; waited += 100) {
      const { items } = await admin.core.listNamespacedPersistentVolumeClaim({ namespace });
      if (items.every(({ metadata }) => metadata?.name !== name)) return;
      await sleep(100);
    }
    assert.fail(`claim ${name} is still there`);
  }
});
