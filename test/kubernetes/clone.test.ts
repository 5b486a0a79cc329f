import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { V1PersistentVolumeSpec } from '@kubernetes/client-node';
import { createKubernetes, MERGE_PATCH, type Kubernetes } from '../../activities/kubernetes/client.js';
import { createCloneSourceActivities } from '../../activities/kubernetes/clone-sources.js';
import { createCloneActivities } from '../../activities/kubernetes/clone/index.js';
import { readDataVolume } from '../../activities/kubernetes/data-volumes.js';
import { createClaimPlanner } from '../../activities/kubernetes/targets.js';
import type { CloneOrigin, OriginAwaited } from '../../activities/types/clone.js';
import type { DataVolumeRef } from '../../activities/types.js';
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
  setStatus,
} from './support/fixtures.js';

const MiB = 2 ** 20;
const CONTENT = { bytes: 64 * MiB, allocatedBytes: MiB };

describe('the source of a clone on a real API server', function () {
  this.timeout(60_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  let namespace: string;
  let dvflow: ReturnType<typeof createCloneActivities>;
  let copy: DataVolumeRef;

  before(async () => {
    admin = plane().admin;
    await ensurePool(admin);
    // with the rights of the control role, no more
    const kubernetes = createKubernetes(plane().control);
    const sources = createCloneSourceActivities({ kubernetes });
    dvflow = createCloneActivities({
      kubernetes,
      planClaim: createClaimPlanner(kubernetes),
      resolve: async (input) => await sources.resolveCloneSource(input),
    });
  });
  beforeEach(async () => {
    namespace = await makeNamespace(admin);
    copy = await cloneOf('copy');
  });
  afterEach(async () => {
    await deleteVolumes(admin, `test=${namespace}`);
  });

  /** A DataVolume that clones claim `golden`, its size left out. */
  async function cloneOf(
    name: string,
    spec: Record<string, unknown> = {},
    annotations = {},
  ): Promise<DataVolumeRef> {
    const given = {
      source: { pvc: { namespace, name: 'golden' } },
      storage: { storageClassName: 'hostpath-provisioner' },
      ...spec,
    };
    return refOf(await createDataVolume(admin, manifest(namespace, name, given, annotations)));
  }

  /** Claim `golden`, Bound to a volume of this machine. */
  async function makeGolden(
    metadata: object = {},
    volume: Partial<V1PersistentVolumeSpec> = {},
  ): Promise<void> {
    const name = `golden-${namespace}`;
    const own = { accessModes: ['ReadWriteOnce'], storageClassName: `of-${namespace}` };
    const { volumeMode } = volume;
    const term = { key: 'kubernetes.io/hostname', operator: 'In', values: [plane().info.node] };
    await admin.core.createPersistentVolume({
      body: {
        metadata: { name, labels: { test: namespace } },
        spec: {
          ...own,
          capacity: { storage: '80Mi' },
          hostPath: { path: `/pool/${name}` },
          claimRef: { namespace, name: 'golden' },
          nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [term] }] } },
          ...volume,
        },
      },
    });
    await admin.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: { name: 'golden', ...metadata },
        spec: {
          ...own,
          volumeName: name,
          resources: { requests: { storage: '64Mi' } },
          ...(volumeMode ? { volumeMode } : {}),
        },
      },
    });
    for (let waited = 0; waited < 30_000; waited += 100) {
      const { status } = await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name: 'golden' });
      if (status?.phase === 'Bound') return;
      await sleep(100);
    }
    assert.fail('golden is not Bound');
  }

  const find = async (): Promise<CloneOrigin | OriginAwaited> =>
    await act(dvflow.findCloneOrigin, [{ dataVolume: copy }]);
  const waits = async (): Promise<string> => {
    const { waiting } = await find();
    return waiting
      ? `${waiting.reason}, ${waiting.counts ? 'counts' : 'stands still'}: ${waiting.message}`
      : 'ready';
  };

  it('is told with its volume, node and sizes', async () => {
    await makeGolden();
    const origin = (await find()) as CloneOrigin;
    const { uid: _, ...claim } = origin.claim;
    const { volumeUid: __, ...volume } = origin.volume;
    assert.deepEqual(
      { ...origin, claim, volume },
      {
        claim: { namespace, name: 'golden' },
        volume: {
          node: plane().info.node,
          volume: `golden-${namespace}`,
          volumeMode: 'Filesystem',
          path: `/pool/golden-${namespace}`,
        },
        contentType: 'kubevirt',
        requestBytes: 64 * MiB,
        capacityBytes: 80 * MiB,
      },
    );
  });

  it('is waited for while it does not exist or is not Bound, and time stands still', async () => {
    const absent = `CloneWithoutSource, stands still: The source PersistentVolumeClaim ${namespace}/golden doesn't exist`;
    assert.equal(await waits(), absent);
    await admin.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: { name: 'golden' },
        spec: {
          accessModes: ['ReadWriteOnce'],
          storageClassName: 'nobody',
          resources: { requests: { storage: '1Mi' } },
        },
      },
    });
    assert.match(
      await waits(),
      /^ImportPVCNotReady, stands still: The source PVC \S+\/golden is Pending, not Bound$/,
    );
  });

  it('is refused where it is the claim that is to be made, and waited for where a DataSource says so', async () => {
    const itself = await cloneOf('itself', { source: { pvc: { namespace, name: 'itself' } } });
    await rejects(
      act(dvflow.findCloneOrigin, [{ dataVolume: itself }]),
      'InvalidDataVolume',
      new RegExp(`from itself: PersistentVolumeClaim ${namespace}/itself is the one`),
    );
    await admin.custom.createNamespacedCustomObject({
      group: 'cdi.kubevirt.io',
      version: 'v1beta1',
      plural: 'datasources',
      namespace,
      body: {
        apiVersion: 'cdi.kubevirt.io/v1beta1',
        kind: 'DataSource',
        metadata: { name: 'round' },
        spec: { source: { pvc: { namespace, name: 'around' } } },
      },
    });
    const around = await cloneOf('around', {
      source: undefined,
      sourceRef: { kind: 'DataSource', name: 'round' },
    });
    const { waiting } = (await act(dvflow.findCloneOrigin, [{ dataVolume: around }])) as OriginAwaited;
    assert.deepEqual([waiting.reason, waiting.counts], ['CloneWithoutSource', false]);
    assert.match(waiting.message, /^DataSource \S+\/round names no other source/);
  });

  it('is waited for while its DataVolume fills it, and while anybody else does', async () => {
    const filling = await createDataVolume(admin, manifest(namespace, 'golden'));
    const owner = {
      apiVersion: 'cdi.kubevirt.io/v1beta1',
      kind: 'DataVolume',
      name: 'golden',
      uid: filling.metadata.uid,
      controller: true,
    };
    await makeGolden({ ownerReferences: [owner] });
    assert.match(
      await waits(),
      /^ImportPVCNotReady, stands still: .*is not fully imported: DataVolume \S+\/golden is Pending$/,
    );
    await setStatus(admin, namespace, 'golden', { phase: 'ImportInProgress' });
    assert.match(await waits(), /DataVolume \S+\/golden is ImportInProgress$/);
    await setStatus(admin, namespace, 'golden', { phase: 'Succeeded' });
    assert.equal(await waits(), 'ready');
    const annotate = async (annotations: Record<string, string>): Promise<void> => {
      await admin.core.patchNamespacedPersistentVolumeClaim(
        { namespace, name: 'golden', body: { metadata: { annotations } } },
        MERGE_PATCH,
      );
    };
    await annotate({ 'cdi.kubevirt.io/storage.upload.target': '' });
    assert.match(await waits(), /is not fully imported$/);
    await annotate({ 'cdi.kubevirt.io/storage.pod.phase': 'Succeeded' });
    assert.equal(await waits(), 'ready');
  });

  it('is waited for while a pod may write to it, which is named, and time counts', async () => {
    await makeGolden();
    await admin.core.createNamespacedPod({
      namespace,
      body: {
        metadata: { name: 'vm' },
        spec: {
          schedulerName: 'nobody',
          containers: [{ name: 'main', image: 'none', volumeMounts: [{ name: 'disk', mountPath: '/d' }] }],
          volumes: [{ name: 'disk', persistentVolumeClaim: { claimName: 'golden' } }],
        },
      },
    });
    assert.equal(
      await waits(),
      `CloneSourceInUse, counts: pod ${namespace}/vm using PersistentVolumeClaim golden`,
    );
    await admin.core.deleteNamespacedPod({ namespace, name: 'vm', gracePeriodSeconds: 0 });
    assert.equal(await waits(), 'ready');
  });

  it('is refused where it is on no node, or a snapshot', async () => {
    await makeGolden({}, { hostPath: null, csi: { driver: 'csi.example', volumeHandle: 'x' } } as never);
    await rejects(find(), 'UnsupportedSource', /\(CSI driver csi\.example\) cannot be cloned/);
    copy = await cloneOf('of-snapshot', { source: { snapshot: { namespace, name: 'snap' } } });
    await rejects(find(), 'UnsupportedSource', /VolumeSnapshot \S+\/snap cannot be cloned by this release/);
  });

  it('gives a size that is left out: the disk, with the overhead of the target; what does not fit is refused with both figures', async () => {
    await makeGolden();
    const origin = (await find()) as CloneOrigin;
    const plan = async (dataVolume: DataVolumeRef, content = CONTENT) =>
      await act(dvflow.planClone, [{ dataVolume, origin, content }]);
    const target = await plan(copy);
    assert.equal(target.usableBytes, 64 * MiB);
    assert.ok(target.requestBytes > 64 * MiB);
    const larger = await plan(
      await cloneOf('larger', {
        storage: { storageClassName: 'hostpath-provisioner', resources: { requests: { storage: '1Gi' } } },
      }),
    );
    assert.equal(larger.usableBytes, 1024 * MiB);
    const pvc = (storage: string) => ({
      storage: undefined,
      pvc: {
        storageClassName: 'hostpath-provisioner',
        accessModes: ['ReadWriteOnce'],
        resources: { requests: { storage } },
      },
    });
    await rejects(
      plan(await cloneOf('small', pvc('63Mi'))),
      'LargerPVCRequired',
      /asks for 66060288 bytes, claim \S+\/golden for 67108864/,
    );
    await rejects(
      plan(await cloneOf('same', pvc('64Mi'))),
      'LargerPVCRequired',
      /needs 67108864 bytes, claim \S+\/same offers 62914560 after 6% file system overhead: ask for at least 71135396/,
    );
    const tiny = { bytes: 10 * MiB, allocatedBytes: 0 };
    const allowed = await cloneOf('allowed', pvc('20Mi'), { 'cdi.kubevirt.io/permissiveClone': '' });
    assert.equal((await plan(allowed, tiny)).requestBytes, 20 * MiB);
  });

  it('is told on the DataVolume while it is cloned, with what it says of machines; the user goes before', async () => {
    const size = 'instancetype.kubevirt.io/default-instancetype';
    const preference = 'instancetype.kubevirt.io/default-preference';
    const theirs = { 'kubevirt.io/created-by': 'uid', 'cdi.kubevirt.io': 'importer', team: 'a' };
    await makeGolden({ labels: { [size]: 'u1.small', [preference]: 'fedora', ...theirs } });
    const origin = (await find()) as CloneOrigin;
    assert.deepEqual(origin.labels, { [size]: 'u1.small', [preference]: 'fedora' });
    const labelled = manifest(namespace, 'labelled', {
      source: { pvc: { namespace, name: 'golden' } },
      storage: { storageClassName: 'hostpath-provisioner' },
    });
    Object.assign(labelled.metadata, { labels: { [preference]: 'mine' } });
    const dataVolume = refOf(await createDataVolume(admin, labelled));
    const claim = { namespace, name: 'none', uid: 'none' };
    const strategy = { method: 'copy', reason: 'sparse copy' } as const;
    const told = async () => (await readDataVolume(admin, dataVolume)).metadata;
    await act(dvflow.annotateClone, [{ dataVolume, claim, strategy, origin }]);
    assert.deepEqual((await told()).labels, { [size]: 'u1.small', [preference]: 'mine' });
    assert.equal((await told()).annotations?.['dvflow.io/clone-source'], `${namespace}/golden`);
    await act(dvflow.annotateClone, [{ dataVolume, claim, complete: true }]);
    assert.equal((await told()).annotations?.['dvflow.io/clone-source'], undefined);
  });

  it('is told on claim and DataVolume in the annotations of CDI, and in an event', async () => {
    await makeGolden();
    const made = await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name: 'golden' });
    const claim = { namespace, name: 'golden', uid: made.metadata!.uid! };
    const read = async () =>
      (await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name: 'golden' })).metadata
        ?.annotations ?? {};
    const event = { type: 'Warning', reason: 'NoReflink', message: 'sparse copy' } as const;
    const strategy = { method: 'copy', reason: 'sparse copy', fallback: 'NoReflink: ext4' } as const;
    await act(dvflow.annotateClone, [{ dataVolume: copy, claim, strategy, event }]);
    const told = await read();
    assert.equal(told['cdi.kubevirt.io/cloneType'], 'copy');
    assert.equal(told['cdi.kubevirt.io/cloneFallbackReason'], 'NoReflink: ext4');
    const { items } = await admin.core.listNamespacedEvent({ namespace, fieldSelector: 'reason=NoReflink' });
    assert.deepEqual(
      items.map(({ involvedObject, message }) => [involvedObject.name, message]),
      [['copy', 'sparse copy']],
    );
    const shared = { method: 'reflink', reason: 'reflink' } as const;
    await act(dvflow.annotateClone, [{ dataVolume: copy, claim, strategy: shared, complete: true }]);
    const after = await read();
    assert.equal(after['cdi.kubevirt.io/cloneFallbackReason'], undefined);
    assert.equal(after['k8s.io/CloneOf'], 'true');
  });
});
