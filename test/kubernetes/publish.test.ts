import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClaimActivities } from '../../activities/kubernetes/claims.js';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { createDataVolumeActivities } from '../../activities/kubernetes/data-volumes.js';
import { createExecutionObserver } from '../../activities/kubernetes/executions.js';
import { createVolumeActivities } from '../../activities/kubernetes/volumes.js';
import type { ClaimRef, DataVolumeRef, ReservedDirectory } from '../../activities/types.js';
import { awaitQuota } from '../support/quota.js';
import { useControlPlane } from './support/control-plane.js';
import {
  act,
  createDataVolume,
  makeNamespace,
  manifest,
  plain,
  POOL,
  refOf,
  rejects,
  rejectsForNow,
  TARGET,
} from './support/fixtures.js';

describe('claims and volumes on a real API server', function () {
  this.timeout(30_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  let kubernetes: Kubernetes;
  let namespace: string;
  let claims: ReturnType<typeof createClaimActivities>;
  let volumes: ReturnType<typeof createVolumeActivities>;

  before(() => {
    admin = plane().admin;
    kubernetes = createKubernetes(plane().control);
    claims = createClaimActivities({ kubernetes });
    volumes = createVolumeActivities({ kubernetes });
  });
  beforeEach(async () => {
    namespace = await makeNamespace(admin);
  });

  const open = async (name = 'vm1', annotations: Record<string, string> = {}): Promise<DataVolumeRef> =>
    refOf(await createDataVolume(admin, manifest(namespace, name, {}, annotations)));
  const readClaim = async (name = 'vm1') =>
    await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name });
  const readVolume = async (claim: ClaimRef) =>
    await admin.core.readPersistentVolume({ name: `pvc-${claim.uid}` });
  const directoryFor = (dataVolume: DataVolumeRef, claim: ClaimRef): ReservedDirectory => ({
    node: 'node01',
    hostname: 'node01.example',
    pool: POOL.path,
    directory: `pvc-${claim.uid}`,
    dataVolume,
    promisedBytes: TARGET.requestBytes,
  });
  const publicationOf = (dataVolume: DataVolumeRef, claim: ClaimRef) => ({
    dataVolume,
    claim,
    target: TARGET,
    directory: directoryFor(dataVolume, claim),
  });
  const isGone = async (read: () => Promise<unknown>): Promise<boolean> => {
    for (let waited = 0; waited < 10_000; waited += 100) {
      try {
        await read();
      } catch (error) {
        if ((error as { code?: number }).code === 404) return true;
        throw error;
      }
      await sleep(100);
    }
    return false;
  };

  it('makes the claim Pending, with owner, annotations and marks from birth', async () => {
    const dataVolume = await open('vm1', {
      'team.example/owner': 'alice',
      'kubectl.kubernetes.io/last-applied-configuration': '{}',
    });
    const claim = await act(claims.ensureClaim, [{ dataVolume, target: TARGET }]);
    const { metadata, spec, status } = await readClaim();
    assert.deepEqual(claim, { namespace, name: 'vm1', uid: metadata?.uid });
    assert.equal(status?.phase, 'Pending');
    assert.deepEqual(plain(metadata?.ownerReferences), [
      {
        apiVersion: 'cdi.kubevirt.io/v1beta1',
        kind: 'DataVolume',
        name: 'vm1',
        uid: dataVolume.uid,
        controller: true,
        blockOwnerDeletion: true,
      },
    ]);
    assert.deepEqual(metadata?.labels, {
      app: 'containerized-data-importer',
      'alerts.k8s.io/KubePersistentVolumeFillingUp': 'disabled',
      'dvflow.io/unpublished': dataVolume.uid,
    });
    assert.deepEqual(metadata?.annotations, {
      'team.example/owner': 'alice',
      'cdi.kubevirt.io/createdForDataVolume': dataVolume.uid,
      'cdi.kubevirt.io/storage.contentType': 'kubevirt',
      'cdi.kubevirt.io/storage.pod.restarts': '0',
      'cdi.kubevirt.io/storage.preallocation.requested': 'false',
      'dvflow.io/workflow-id': 'workflow-1',
      'dvflow.io/data-volume': `${namespace}/vm1`,
    });
    assert.equal(spec?.resources?.requests?.storage, '1138166334');
  });

  it("copies the user's labels, also those that CDI sets by itself", async () => {
    const written = manifest(namespace, 'vm1');
    const metadata = { ...written.metadata, labels: { app: 'shop', tier: 'db' } };
    const made = await createDataVolume(admin, { ...written, metadata });
    await act(claims.ensureClaim, [{ dataVolume: refOf(made), target: TARGET }]);
    assert.deepEqual((await readClaim()).metadata?.labels, {
      app: 'shop',
      tier: 'db',
      'alerts.k8s.io/KubePersistentVolumeFillingUp': 'disabled',
      'dvflow.io/unpublished': made.metadata.uid,
    });
  });

  it('returns the claim of an earlier attempt', async () => {
    const dataVolume = await open();
    const first = await act(claims.ensureClaim, [{ dataVolume, target: TARGET }]);
    const second = await act(claims.ensureClaim, [{ dataVolume, target: TARGET }], { attempt: 2 });
    assert.deepEqual(second, first);
  });

  it('refuses the claim of an earlier run that has another size than the disk is to have', async () => {
    const dataVolume = await open();
    await act(claims.ensureClaim, [{ dataVolume, target: TARGET }]);
    const target = { ...TARGET, requestBytes: TARGET.requestBytes * 2 };
    await rejects(
      act(claims.ensureClaim, [{ dataVolume, target }]),
      'IncompatiblePVC',
      /claim t-\w+\/vm1 of an earlier run asks for 1138166334 bytes, the disk needs a claim of 2276332668 by now/,
    );
  });

  it('refuses a claim that is not its own', async () => {
    await admin.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: { name: 'vm1' },
        spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
      },
    });
    const dataVolume = await open();
    await rejects(
      act(claims.ensureClaim, [{ dataVolume, target: TARGET }]),
      'ResourceExists',
      /claim t-\w+\/vm1 already exists and is not managed by the DataVolume/,
    );
  });

  it('waits for quota', async () => {
    await admin.core.createNamespacedResourceQuota({
      namespace,
      body: { metadata: { name: 'small' }, spec: { hard: { 'requests.storage': '1Mi' } } },
    });
    await awaitQuota(admin, namespace, { refuses: true });
    const dataVolume = await open();
    await rejectsForNow(
      act(claims.ensureClaim, [{ dataVolume, target: TARGET }]),
      'ExceededQuota',
      /exceeded quota: small/,
    );
  });

  it('publishes: Bound to the volume, without marks, twice the same', async () => {
    const dataVolume = await open();
    const claim = await act(claims.ensureClaim, [{ dataVolume, target: TARGET }]);
    const first = await act(volumes.publishVolume, [publicationOf(dataVolume, claim)]);
    assert.deepEqual(first, { volume: `pvc-${claim.uid}` });
    assert.deepEqual(
      await act(volumes.publishVolume, [publicationOf(dataVolume, claim)], { attempt: 2 }),
      first,
    );
    const published = await readClaim();
    assert.equal(published.status?.phase, 'Bound');
    assert.equal(published.spec?.volumeName, first.volume);
    assert.equal(published.metadata?.labels?.['dvflow.io/unpublished'], undefined);
    assert.equal(published.metadata?.annotations?.['dvflow.io/workflow-id'], undefined);
    const { metadata, spec } = await readVolume(claim);
    assert.equal(metadata?.labels, undefined);
    assert.deepEqual(metadata?.annotations, {
      'pv.kubernetes.io/provisioned-by': 'kubevirt.io/hostpath-provisioner',
      hostPathProvisionerIdentity: 'dvflow',
      'kubevirt.io/provisionOnNode': 'node01',
    });
    assert.equal(spec?.persistentVolumeReclaimPolicy, 'Delete');
    assert.deepEqual(plain(spec?.hostPath), { path: `/var/hpvolumes/pvc-${claim.uid}`, type: 'Directory' });
    assert.equal(spec?.capacity?.storage, '1138166334');
    assert.equal(spec?.claimRef?.uid, claim.uid);
    assert.deepEqual(spec?.nodeAffinity?.required?.nodeSelectorTerms[0]?.matchExpressions?.[0]?.values, [
      'node01.example',
    ]);
  });

  it('finishes a publication that was killed after the volume was made', async () => {
    const dataVolume = await open();
    const claim = await act(claims.ensureClaim, [{ dataVolume, target: TARGET }]);
    await act(volumes.publishVolume, [publicationOf(dataVolume, claim)]);
    // as an attempt leaves it that dies between Bound and the removal of the marks
    const marked = JSON.stringify({ metadata: { labels: { 'dvflow.io/unpublished': dataVolume.uid } } });
    for (const what of [
      ['pvc', 'vm1', '-n', namespace],
      ['pv', `pvc-${claim.uid}`],
    ]) {
      await plane().kubectl(
        'patch',
        ...what,
        '-p',
        marked,
        '--as=system:serviceaccount:dvflow:dvflow-control',
      );
    }
    await act(volumes.publishVolume, [publicationOf(dataVolume, claim)], { attempt: 2 });
    assert.equal((await readClaim()).metadata?.labels?.['dvflow.io/unpublished'], undefined);
    assert.equal((await readVolume(claim)).metadata?.labels?.['dvflow.io/unpublished'], undefined);
  });

  it('never removes a published claim or its volume', async () => {
    const dataVolume = await open();
    const claim = await act(claims.ensureClaim, [{ dataVolume, target: TARGET }]);
    await act(volumes.publishVolume, [publicationOf(dataVolume, claim)]);
    await act(claims.deleteClaim, [{ dataVolume, claim }]);
    assert.deepEqual(await act(volumes.deleteUnpublishedVolume, [{ dataVolume, claim }]), { kept: true });
    assert.equal((await readClaim()).metadata?.deletionTimestamp, undefined);
    assert.equal((await readVolume(claim)).metadata?.deletionTimestamp, undefined);
  });

  it('says ClaimLost when the claim is gone, and leaves no volume', async () => {
    const dataVolume = await open();
    const claim = await act(claims.ensureClaim, [{ dataVolume, target: TARGET }]);
    await admin.core.deleteNamespacedPersistentVolumeClaim({ namespace, name: 'vm1' });
    assert.ok(await isGone(readClaim));
    await rejects(
      act(volumes.publishVolume, [publicationOf(dataVolume, claim)]),
      'ClaimLost',
      /vm1 .* was deleted or lost/,
    );
    assert.ok(await isGone(() => readVolume(claim)));
  });

  it('removes the volume that a killed publication left for a claim that is gone', async () => {
    const dataVolume = await open();
    const claim = await act(claims.ensureClaim, [{ dataVolume, target: TARGET }]);
    const stranger = { ...claim, uid: '00000000-0000-4000-8000-000000000000' };
    const name = `pvc-${stranger.uid}`;
    await kubernetes.core.createPersistentVolume({
      body: {
        metadata: {
          name,
          labels: { 'dvflow.io/unpublished': dataVolume.uid },
          annotations: { 'pv.kubernetes.io/provisioned-by': TARGET.provisioner },
        },
        spec: {
          accessModes: ['ReadWriteOnce'],
          capacity: { storage: '1Gi' },
          persistentVolumeReclaimPolicy: 'Retain',
          hostPath: { path: `/var/hpvolumes/${name}` },
          claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...stranger },
        },
      },
    });
    // Kubernetes writes the phase a moment later, and a volume that changes is not deleted by that attempt
    const phase = async () => (await admin.core.readPersistentVolume({ name })).status?.phase;
    for (let waited = 0; waited < 10_000 && (await phase()) !== 'Released'; waited += 100) await sleep(100);
    assert.equal(await act(volumes.deleteUnpublishedVolume, [{ dataVolume, claim: stranger }]), undefined);
    await act(volumes.deleteUnpublishedVolume, [{ dataVolume, claim: stranger }], { attempt: 2 });
    assert.ok(await isGone(() => admin.core.readPersistentVolume({ name })));
  });

  it('removes an unpublished claim once, and none of its name that came later', async () => {
    const dataVolume = await open();
    const claim = await act(claims.ensureClaim, [{ dataVolume, target: TARGET }]);
    await act(claims.deleteClaim, [{ dataVolume, claim }]);
    assert.ok(await isGone(readClaim));
    await act(claims.deleteClaim, [{ dataVolume, claim }], { attempt: 2 });
    await act(claims.ensureClaim, [{ dataVolume, target: TARGET }]);
    await act(claims.deleteClaim, [{ dataVolume, claim }], { attempt: 3 });
    assert.equal((await readClaim()).metadata?.deletionTimestamp, undefined);
  });

  it('removes the claim that it made without having been told the uid, and no published one', async () => {
    const dataVolume = await open();
    const untold = { namespace, name: 'vm1', uid: '' };
    await act(claims.deleteClaim, [{ dataVolume, claim: untold }]);
    await act(volumes.deleteUnpublishedVolume, [{ dataVolume, claim: untold }]);
    await act(claims.ensureClaim, [{ dataVolume, target: TARGET }]);
    const other = { ...dataVolume, uid: '00000000-0000-4000-8000-000000000000' };
    await act(claims.deleteClaim, [{ dataVolume: other, claim: untold }]);
    assert.equal((await readClaim()).metadata?.deletionTimestamp, undefined);
    await act(claims.deleteClaim, [{ dataVolume, claim: untold }]);
    assert.ok(await isGone(readClaim));
    const claim = await act(claims.ensureClaim, [{ dataVolume, target: TARGET }]);
    await act(volumes.publishVolume, [publicationOf(dataVolume, claim)]);
    await act(claims.deleteClaim, [{ dataVolume, claim: untold }]);
    assert.equal((await readClaim()).metadata?.deletionTimestamp, undefined);
  });

  it('adopts a claim by nothing but the ownerReference', async () => {
    await admin.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: { name: 'vm1', annotations: { 'cdi.kubevirt.io/storage.populatedFor': 'vm1' } },
        spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
      },
    });
    const before = await readClaim();
    const dataVolume = await open();
    const input = { dataVolume, claimUid: before.metadata?.uid ?? '' };
    const adopted = await act(claims.adoptClaim, [input]);
    assert.deepEqual(await act(claims.adoptClaim, [input], { attempt: 2 }), adopted);
    const { metadata } = await readClaim();
    assert.equal(metadata?.ownerReferences?.length, 1);
    assert.equal(metadata?.ownerReferences?.[0]?.uid, dataVolume.uid);
    assert.deepEqual(metadata?.annotations, before.metadata?.annotations);
  });

  it('takes off an adopted claim what a run has left that ended before it could', async () => {
    await kubernetes.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: {
          name: 'vm1',
          labels: { 'dvflow.io/unpublished': 'old', app: 'x' },
          annotations: { 'dvflow.io/workflow-id': 'gone' },
        },
        spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
      },
    });
    const dataVolume = await open();
    const { metadata } = await readClaim();
    await act(claims.adoptClaim, [{ dataVolume, claimUid: metadata?.uid ?? '' }]);
    const adopted = (await readClaim()).metadata;
    assert.deepEqual([adopted?.labels, adopted?.annotations], [{ app: 'x' }, undefined]);
    assert.equal(adopted?.ownerReferences?.[0]?.uid, dataVolume.uid);
  });

  it('opens a manifest as the impersonated user and finds it again', async () => {
    const { openDataVolume } = createDataVolumeActivities({
      kubernetes,
      executions: createExecutionObserver(plane().temporal),
      temporalNamespace: 'default',
    });
    const opened = await act(openDataVolume, [{ manifest: manifest(namespace, 'from-temporal') }], {
      workflowId: 'mine',
    });
    assert.equal(opened.displayUrl, 'http://images.example/disk.qcow2');
    const again = await act(openDataVolume, [{ manifest: manifest(namespace, 'from-temporal') }], {
      workflowId: 'mine',
      attempt: 2,
    });
    assert.deepEqual(again, opened);
    await rejects(
      act(openDataVolume, [{ manifest: manifest(namespace, 'from-temporal') }], { workflowId: 'other' }),
      'ResourceExists',
      /already exists and is not of this workflow/,
    );
  });
});
