import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { scratchRequired } from '../../activities/image/refusals.js';
import { createClaimActivities } from '../../activities/kubernetes/claims.js';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { createExecutionObserver } from '../../activities/kubernetes/executions.js';
import { createScratchActivities } from '../../activities/kubernetes/scratch.js';
import { createSweepActivities } from '../../activities/kubernetes/sweep.js';
import type { ClaimRef, DataVolumeRef, ImageFacts, ReservedDirectory } from '../../activities/types.js';
import type { ScratchPlan } from '../../activities/types/scratch.js';
import { awaitQuota } from '../support/quota.js';
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
  rejectsForNow,
  TARGET,
} from './support/fixtures.js';

const TRANSFERS = 'dvflow-transfers';
const MiB = 2 ** 20;
const PLAN: ScratchPlan = {
  storageClass: 'hostpath-provisioner',
  provisioner: 'kubevirt.io/hostpath-provisioner',
  chosenBy: "target's StorageClass",
  pool: POOL,
  requestBytes: 1000 * MiB,
  promisedBytes: 1030 * MiB,
  reason: 'a VMDK in gz',
};

describe('scratch space on a real API server', function () {
  this.timeout(30_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  let kubernetes: Kubernetes;
  let namespace: string;
  let activities: ReturnType<typeof createScratchActivities>;

  before(async () => {
    admin = plane().admin;
    kubernetes = createKubernetes(plane().control);
    activities = createScratchActivities({ kubernetes, transferNamespace: TRANSFERS });
    await ensurePool(admin);
  });
  beforeEach(async () => {
    namespace = await makeNamespace(admin);
  });

  const open = async (workflowId = 'w/1'): Promise<{ dataVolume: DataVolumeRef; claim: ClaimRef }> => {
    const dataVolume = refOf(
      await createDataVolume(admin, manifest(namespace, `vm-${randomUUID().slice(0, 8)}`)),
    );
    const { ensureClaim } = createClaimActivities({ kubernetes });
    return { dataVolume, claim: await act(ensureClaim, [{ dataVolume, target: TARGET }], { workflowId }) };
  };
  const ensure = async (
    of: { dataVolume: DataVolumeRef; claim: ClaimRef },
    plan = PLAN,
    info: Parameters<typeof act>[2] = {},
  ) =>
    await act(
      activities.ensureScratchClaim,
      [{ ...of, plan, node: 'node01', hostname: 'node01.example' }],
      info,
    );
  const directoryFor = (claim: ClaimRef): ReservedDirectory => ({
    node: 'node01',
    hostname: 'node01.example',
    pool: POOL.path,
    directory: `pvc-${claim.uid}`,
    dataVolume: claim,
    promisedBytes: PLAN.requestBytes,
  });
  const bind = async (dataVolume: DataVolumeRef, claim: ClaimRef, info: Parameters<typeof act>[2] = {}) =>
    await act(
      activities.bindScratch,
      [{ dataVolume, claim, plan: PLAN, directory: directoryFor(claim) }],
      info,
    );
  const readClaim = async (name: string) =>
    await admin.core.readNamespacedPersistentVolumeClaim({ namespace: TRANSFERS, name });
  const gone = async (read: () => Promise<unknown>): Promise<boolean> => {
    for (let looks = 0; looks < 300; looks++) {
      const code = await read().then(
        () => 200,
        (error: { code?: number }) => error.code,
      );
      if (code === 404) return true;
      await sleep(100);
    }
    return false;
  };
  const assertGone = async (
    { uid }: DataVolumeRef,
    sweep = async (): Promise<void> => undefined,
  ): Promise<void> => {
    const name = `prime-${uid}-scratch`;
    assert.ok(await gone(() => sweep().then(() => readClaim(name))), `claim ${name}`);
    assert.ok(
      await gone(() => sweep().then(() => admin.core.readPersistentVolume({ name }))),
      `volume ${name}`,
    );
  };

  it('is planned from the configuration as it is at that moment', async () => {
    const image: ImageFacts = {
      displayUrl: 'http://images.example/disk.vmdk.gz',
      format: 'vmdk',
      containers: ['gz'],
      validators: {},
      ranges: true,
      plan: 'qemu-img',
      resume: 'reread',
      reason: '',
    };
    const planned = async () => {
      const { dataVolume } = await open();
      const reason = scratchRequired('a VMDK').message;
      return await act(activities.planScratch, [{ dataVolume, target: TARGET, image, reason }]);
    };
    const configure = async (name: string | null) =>
      await plane().kubectl(
        'patch',
        'cdiconfig',
        'config',
        '--type=merge',
        '-p',
        JSON.stringify({ spec: { scratchSpaceStorageClass: name } }),
      );
    const body = (name: string, provisioner: string) => ({ metadata: { name }, provisioner });
    await admin.storage.createStorageClass({ body: body('fast', PLAN.provisioner) });
    await admin.storage.createStorageClass({ body: body('ceph', 'rbd.csi.ceph.com') });
    try {
      const { chosenBy, requestBytes } = await planned();
      assert.deepEqual([chosenBy, requestBytes], ['default StorageClass', 1086 * MiB]);
      await configure('fast');
      assert.equal((await planned()).storageClass, 'fast');
      await configure('ceph');
      await rejects(
        planned(),
        'ScratchSpaceRequired',
        /scratch space: a VMDK; .*"ceph".*scratchSpaceStorageClass/,
      );
    } finally {
      await configure(null);
      for (const name of ['fast', 'ceph']) await admin.storage.deleteStorageClass({ name });
    }
  });

  it("is a claim in dvflow's namespace, marked for the sweeper, and the user's claim is annotated as CDI does", async () => {
    const of = await open();
    const { claim } = await ensure(of);
    assert.equal(claim.name, `prime-${of.dataVolume.uid}-scratch`);
    const { metadata, spec } = await readClaim(claim.name);
    assert.equal(metadata?.ownerReferences, undefined);
    assert.equal(metadata?.labels?.['dvflow.io/unpublished'], of.dataVolume.uid);
    assert.equal(metadata?.labels?.['app'], 'containerized-data-importer');
    assert.equal(metadata?.labels?.['velero.io/exclude-from-backup'], 'true');
    assert.equal(metadata?.annotations?.['dvflow.io/workflow-id'], 'workflow-1');
    assert.equal(metadata?.annotations?.['dvflow.io/data-volume'], `${namespace}/${of.dataVolume.name}`);
    assert.deepEqual(
      [spec?.accessModes, spec?.volumeMode, spec?.storageClassName, spec?.resources?.requests?.['storage']],
      [['ReadWriteOnce'], 'Filesystem', PLAN.storageClass, '1000Mi'],
    );
    const user = await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name: of.claim.name });
    assert.equal(user.metadata?.annotations?.['cdi.kubevirt.io/storage.import.requiresScratch'], 'true');
    assert.deepEqual((await ensure(of, PLAN, { attempt: 2 })).claim, claim);
    await act(activities.deleteScratch, [{ dataVolume: of.dataVolume }]);
  });

  it('is Bound within seconds to the volume of its directory, twice the same, and removed whole', async () => {
    const { dataVolume, claim: owned } = await open();
    const { claim } = await ensure({ dataVolume, claim: owned });
    assert.deepEqual(await bind(dataVolume, claim), {});
    assert.deepEqual(await bind(dataVolume, claim, { attempt: 2 }), {});
    const { status, spec } = await readClaim(claim.name);
    assert.deepEqual([status?.phase, spec?.volumeName], ['Bound', claim.name]);
    const volume = await admin.core.readPersistentVolume({ name: claim.name });
    assert.equal(volume.spec?.hostPath?.path, `${POOL.path}/pvc-${claim.uid}`);
    assert.equal(volume.spec?.persistentVolumeReclaimPolicy, 'Retain');
    assert.equal(volume.metadata?.annotations?.['pv.kubernetes.io/provisioned-by'], PLAN.provisioner);
    await act(activities.deleteScratch, [{ dataVolume }]);
    await act(activities.deleteScratch, [{ dataVolume }], { attempt: 2 });
    await assertGone(dataVolume);
  });

  it("says which claim is gone, and does not fail when the user's is", async () => {
    const { dataVolume, claim: owned } = await open();
    const { claim } = await ensure({ dataVolume, claim: owned });
    const lost = { ...claim, uid: randomUUID() };
    const { unbound = '' } = await bind(dataVolume, lost);
    assert.match(unbound, new RegExp(`${TRANSFERS}/${claim.name} .*"hostpath-provisioner" is gone`));
    assert.deepEqual((await ensure({ dataVolume, claim: { ...owned, uid: randomUUID() } })).claim, claim);
    await act(activities.deleteScratch, [{ dataVolume }]);
    await assertGone(dataVolume);
  });

  it('gets no other volume, although one of its class lies ready', async () => {
    const body = {
      metadata: { name: `ready-${randomUUID().slice(0, 8)}` },
      spec: {
        accessModes: ['ReadWriteOnce'],
        capacity: { storage: '2Gi' },
        storageClassName: PLAN.storageClass,
        hostPath: { path: '/nowhere' },
      },
    };
    await admin.core.createPersistentVolume({ body });
    const { dataVolume, claim: owned } = await open();
    const { claim } = await ensure({ dataVolume, claim: owned });
    assert.deepEqual(await bind(dataVolume, claim), {});
    assert.equal((await readClaim(claim.name)).spec?.volumeName, claim.name);
    await act(activities.deleteScratch, [{ dataVolume }]);
    await admin.core.deletePersistentVolume({ name: body.metadata.name });
  });

  it('of an earlier run, or of another plan, is made anew: the sweeper may hold it for abandoned', async () => {
    const of = await open();
    const { claim } = await ensure(of, PLAN, { workflowId: 'w/earlier' });
    await rejectsForNow(ensure(of), 'KubernetesUnavailable', /of an earlier run is being removed/);
    await assertGone(of.dataVolume);
    const again = await ensure(of);
    assert.notEqual(again.claim.uid, claim.uid);
    const larger = { ...PLAN, requestBytes: 2 * PLAN.requestBytes };
    await rejectsForNow(ensure(of, larger), 'KubernetesUnavailable');
    await assertGone(of.dataVolume);
  });

  it("leaves alone what bears its name and is somebody else's", async () => {
    const of = await open();
    const name = `prime-${of.dataVolume.uid}-scratch`;
    await admin.core.createNamespacedPersistentVolumeClaim({
      namespace: TRANSFERS,
      body: {
        metadata: { name },
        spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Mi' } } },
      },
    });
    await rejects(ensure(of), 'ResourceExists', new RegExp(name));
    await rejects(act(activities.deleteScratch, [{ dataVolume: of.dataVolume }]), 'ResourceExists');
    await admin.core.deleteNamespacedPersistentVolumeClaim({ namespace: TRANSFERS, name });
  });

  it("is refused on a node that the class's allowedTopologies leave out", async () => {
    const [node] = (await admin.core.listNode()).items;
    const name = `only-${randomUUID().slice(0, 8)}`;
    const key = 'kubernetes.io/hostname';
    await admin.storage.createStorageClass({
      body: {
        metadata: { name },
        provisioner: PLAN.provisioner,
        allowedTopologies: [{ matchLabelExpressions: [{ key, values: ['elsewhere'] }] }],
      },
    });
    const of = await open();
    const input = { ...of, plan: { ...PLAN, storageClass: name }, node: node?.metadata?.name ?? '' };
    await rejects(
      act(activities.ensureScratchClaim, [{ ...input, hostname: '' }]),
      'ScratchSpaceRequired',
      /allowedTopologies/,
    );
    await admin.storage.deleteStorageClass({ name });
  });

  it('waits for a quota, naming it', async () => {
    const of = await open();
    const body = { metadata: { name: 'no-claims' }, spec: { hard: { persistentvolumeclaims: '0' } } };
    await admin.core.createNamespacedResourceQuota({ namespace: TRANSFERS, body });
    try {
      await awaitQuota(admin, TRANSFERS, { refuses: true });
      await rejectsForNow(ensure(of), 'ExceededQuota', /no-claims/);
    } finally {
      await admin.core.deleteNamespacedResourceQuota({ namespace: TRANSFERS, name: 'no-claims' });
      await awaitQuota(admin, TRANSFERS, { refuses: false });
    }
  });

  it('is swept although it is Bound, once its workflow is closed, and not before', async () => {
    const workflowId = `w/${randomUUID()}`;
    const handle = await plane().temporal.workflow.start('importDataVolume', {
      workflowId,
      taskQueue: 'nobody',
      args: [],
    });
    const { dataVolume, claim: owned } = await open(workflowId);
    const { claim } = await ensure({ dataVolume, claim: owned }, PLAN, { workflowId });
    await bind(dataVolume, claim, { workflowId });
    const sweeper = createSweepActivities({
      kubernetes,
      executions: createExecutionObserver(plane().temporal),
      transferNamespace: TRANSFERS,
      graceMs: -10_000,
    });
    const directory = {
      kind: 'Directory',
      where: 'node01',
      name: `pvc-${claim.uid}`,
      pool: POOL.path,
      dataVolume: claim,
      workflowId,
      createdAt: new Date().toISOString(),
    } as const;
    const items = [
      ...(await act(sweeper.listUnpublished, [])).filter(({ name }) => name === claim.name),
      directory,
    ];
    assert.equal(items.length, 3);
    assert.deepEqual(await act(sweeper.judgeUnpublished, [{ items }]), []);
    await handle.terminate();
    assert.deepEqual(await act(sweeper.judgeUnpublished, [{ items }]), items);
    // what Kubernetes writes to between look and removal is left to the next sweep
    await assertGone(dataVolume, async () => {
      for (const item of items.slice(0, 2)) await act(sweeper.removeUnpublished, [{ item }]);
    });
  });
});
