import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { V1PersistentVolume } from '@kubernetes/client-node';
import { createClaimActivities } from '../../activities/kubernetes/claims.js';
import { createKubernetes, MERGE_PATCH } from '../../activities/kubernetes/client.js';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { createExecutionObserver } from '../../activities/kubernetes/executions.js';
import { createReclaimActivities } from '../../activities/kubernetes/reclaim.js';
import { createSweepActivities } from '../../activities/kubernetes/sweep.js';
import { finalizerStep, keepFinalizer } from '../../activities/kubernetes/volume-finalizer.js';
import { createVolumeActivities, volumeBody } from '../../activities/kubernetes/volumes.js';
import { useControlPlane } from './support/control-plane.js';
import {
  act,
  createDataVolume,
  ensurePool,
  makeNamespace,
  manifest,
  POOL,
  refOf,
  rejectsForNow,
  TARGET,
} from './support/fixtures.js';

const FINALIZER = 'dvflow.io/reclaim';
const PROTECTION = 'kubernetes.io/pv-protection';

describe('the finalizer of volumes on a real API server', function () {
  this.timeout(40_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  let kubernetes: Kubernetes;
  let namespace: string;
  let claims: ReturnType<typeof createClaimActivities>;
  let volumes: ReturnType<typeof createVolumeActivities>;
  let reclaim: ReturnType<typeof createReclaimActivities>;
  let sweeper: ReturnType<typeof createSweepActivities>;

  before(async () => {
    admin = plane().admin;
    kubernetes = createKubernetes(plane().control);
    claims = createClaimActivities({ kubernetes });
    volumes = createVolumeActivities({ kubernetes });
    reclaim = createReclaimActivities({ kubernetes });
    // the workflow that these tests act for has ended
    const executions = {
      ...createExecutionObserver(plane().temporal),
      stateOf: async () => 'closed' as const,
    };
    sweeper = createSweepActivities({ kubernetes, executions, transferNamespace: 'dvflow-transfers' });
    await ensurePool(admin);
  });
  beforeEach(async () => {
    namespace = await makeNamespace(admin);
  });

  /** A DataVolume's claim, and what its volume is published with. */
  const prepare = async (reclaimPolicy: 'Delete' | 'Retain' = 'Delete', hostname = plane().info.node) => {
    const dataVolume = refOf(await createDataVolume(admin, manifest(namespace, 'vm1')));
    const claim = await act(claims.ensureClaim, [{ dataVolume, target: TARGET }]);
    const name = `pvc-${claim.uid}`;
    const where = { node: plane().info.node, hostname, pool: POOL.path, directory: name };
    const directory = { ...where, dataVolume, promisedBytes: 1 };
    const publication = { dataVolume, claim, target: { ...TARGET, reclaimPolicy }, directory };
    return { claim, dataVolume, name, publication };
  };
  type Prepared = Awaited<ReturnType<typeof prepare>>;
  const publish = async (...args: Parameters<typeof prepare>) => {
    const { claim, dataVolume, name, publication } = await prepare(...args);
    await act(volumes.publishVolume, [publication]);
    const uid = (await read(name))?.metadata?.uid ?? '';
    return { claim, dataVolume, name, uid, publication };
  };

  const read = async (name: string): Promise<V1PersistentVolume | undefined> =>
    await admin.core.readPersistentVolume({ name }).catch((error: { code?: number }) => {
      if (error.code === 404) return undefined;
      throw error;
    });
  const eventually = async (what: string, is: () => Promise<boolean>): Promise<void> => {
    for (let waited = 0; waited < 15_000; waited += 100) {
      if (await is()) return;
      await sleep(100);
    }
    assert.fail(`never: ${what}`);
  };
  const gone = async (name: string): Promise<void> =>
    await eventually(`${name} is gone`, async () => (await read(name)) === undefined);
  const phase = async (name: string, wanted: string): Promise<void> =>
    await eventually(`${name} is ${wanted}`, async () => (await read(name))?.status?.phase === wanted);
  const remove = async (name: string): Promise<void> =>
    void (await admin.core.deletePersistentVolume({ name }));
  const removeClaim = async (): Promise<void> =>
    void (await plane().kubectl('delete', 'pvc', 'vm1', '-n', namespace));
  const change = async (name: string, body: object): Promise<void> =>
    void (await admin.core.patchPersistentVolume({ name, body }, MERGE_PATCH));
  /** What the watch does, event after event, and the finalizers when it comes to rest: others write at the same time. */
  const look = async (name: string): Promise<string[] | undefined> => {
    for (let looks = 0; looks < 100; looks += 1) {
      const found = await read(name);
      if (!found || finalizerStep(found) === undefined) return found?.metadata?.finalizers;
      await keepFinalizer(kubernetes, found);
    }
    assert.fail(`${name} does not come to rest`);
  };

  it('keeps a volume that was deleted while Bound until its data is said to be gone', async () => {
    const volume = await publish();
    await remove(volume.name);
    await removeClaim();
    await phase(volume.name, 'Released');
    await eventually('Kubernetes lets go', async () => {
      const { finalizers } = (await read(volume.name))?.metadata ?? {};
      return finalizers?.length === 1 && finalizers[0] === FINALIZER;
    });
    assert.equal(await look(volume.name).then((found) => found?.length), 1);
    const { name, uid } = volume;
    assert.deepEqual(
      (await act(reclaim.observeReleasedVolume, [{ name, uid }])).volume?.path,
      `${POOL.path}/${name}`,
    );
    await act(reclaim.deleteVolume, [{ name, uid: '00000000-0000-4000-8000-000000000000' }]);
    assert.ok(await read(name));
    await act(reclaim.deleteVolume, [{ name, uid }]);
    await gone(name);
    await act(reclaim.deleteVolume, [{ name, uid }], { attempt: 2 });
  });

  it('ends a deletion that died before the finalizer was taken off', async () => {
    const volume = await publish();
    await removeClaim();
    await phase(volume.name, 'Released');
    // the first half of deleteVolume
    await kubernetes.core.deletePersistentVolume({ name: volume.name });
    await act(reclaim.deleteVolume, [volume], { attempt: 2 });
    await gone(volume.name);
  });

  it('is not on a retained volume, and comes and goes with the policy', async () => {
    const { name } = await publish('Retain');
    assert.deepEqual(await look(name), [PROTECTION]);
    await change(name, { spec: { persistentVolumeReclaimPolicy: 'Delete' } });
    assert.deepEqual((await look(name))?.sort(), [FINALIZER, PROTECTION]);
    assert.deepEqual((await look(name))?.sort(), [FINALIZER, PROTECTION]);
    await change(name, { spec: { persistentVolumeReclaimPolicy: 'Retain' } });
    assert.deepEqual(await look(name), [PROTECTION]);
  });

  it('does not hold a volume whose policy becomes Retain after its deletion', async () => {
    const { name } = await publish();
    await remove(name);
    await removeClaim();
    await phase(name, 'Released');
    await change(name, { spec: { persistentVolumeReclaimPolicy: 'Retain' } });
    await look(name);
    await gone(name);
  });

  it('is added to a volume of an earlier release, and not to one that is being deleted', async () => {
    const { name, uid } = await publish();
    const old = { metadata: { finalizers: [PROTECTION] } };
    await change(name, old);
    assert.deepEqual((await look(name))?.sort(), [FINALIZER, PROTECTION]);
    await change(name, old);
    const before = (await read(name))!;
    await remove(name);
    // as of a version that the watch saw before the deletion
    assert.equal(finalizerStep(before), 'hold');
    await keepFinalizer(kubernetes, before);
    assert.deepEqual(await look(name), [PROTECTION]);
    await act(reclaim.deleteVolume, [{ name, uid }]);
    await removeClaim();
    await gone(name);
  });

  it('leaves the volumes of others alone, and lets go of one that has become theirs', async () => {
    const { name } = await publish();
    const foreign = { hostPathProvisionerIdentity: 'kubevirt.io/hostpath-provisioner-node01' };
    const theirs = [PROTECTION, 'example.com/theirs'];
    await change(name, { metadata: { annotations: foreign, finalizers: [...theirs, FINALIZER] } });
    assert.deepEqual(await look(name), theirs);
    assert.deepEqual(await look(name), theirs);
    await change(name, { metadata: { finalizers: null } });
    await removeClaim();
    await remove(name);
    await gone(name);
  });

  it('lets a volume of a node that is gone go when it is deleted, once it is Released', async () => {
    const volume = await publish('Delete', 'gone-node');
    const { name } = volume;
    await removeClaim();
    await phase(name, 'Released');
    const { waiting } = await act(reclaim.observeReleasedVolume, [volume]);
    assert.match(waiting ?? '', new RegExp(`and "kubectl delete pv ${name}" releases the volume$`));
    await remove(name);
    assert.deepEqual(await act(reclaim.observeReleasedVolume, [volume]), {});
    await gone(name);
  });

  it('does not take a deletion before the release for a word about the node', async () => {
    const volume = await publish('Delete', 'gone-node');
    const { name } = volume;
    await remove(name);
    // times of Kubernetes are whole seconds
    await sleep(1100);
    await removeClaim();
    await phase(name, 'Released');
    const { waiting } = await act(reclaim.observeReleasedVolume, [volume]);
    const command = /"kubectl (patch pv \S+ -p '.*')" releases the volume$/.exec(waiting ?? '')?.[1];
    assert.ok(command, waiting);
    assert.ok(await read(name));
    await plane().kubectl(...command.split(' ').map((word) => word.replaceAll("'", '')));
    await look(name);
    await gone(name);
  });

  it('leaves to reclaiming what a run or the sweeper takes back, if a claim has or had it', async () => {
    const takers = {
      'the run, Released': async ({ dataVolume, claim }: Prepared) =>
        void (await act(volumes.deleteUnpublishedVolume, [{ dataVolume, claim }])),
      'the run, Bound': async ({ dataVolume, claim }: Prepared) =>
        // what Kubernetes writes meanwhile lets an attempt fail, as Temporal then tries again
        await eventually('the claim is deleted', async () =>
          act(claims.deleteClaim, [{ dataVolume, claim }]).then(
            () => true,
            () => false,
          ),
        ),
      'the sweeper': async ({ name, dataVolume }: Prepared) => {
        const objectUid = (await read(name))?.metadata?.uid ?? '';
        const of = { kind: 'PersistentVolume', where: '', name, objectUid } as const;
        const item = { ...of, dataVolume, workflowId: 'workflow-1', createdAt: '' };
        await act(sweeper.removeUnpublished, [{ item }]);
      },
    };
    for (const [taker, take] of Object.entries(takers)) {
      namespace = await makeNamespace(admin);
      const prepared = await prepare();
      const { name } = prepared;
      const bound = taker === 'the run, Bound';
      if (!bound) await removeClaim();
      // as an attempt leaves it that died before it took the marks off
      await kubernetes.core.createPersistentVolume({ body: volumeBody(prepared.publication, 'workflow-1') });
      await phase(name, bound ? 'Bound' : 'Released');
      // Kubernetes writes the claim after the volume
      if (bound)
        await eventually('the claim is Bound', async () => {
          const { status } = await admin.core.readNamespacedPersistentVolumeClaim({ namespace, name: 'vm1' });
          return status?.phase === 'Bound';
        });
      await take(prepared);
      await eventually(`${name}, taken back by ${taker}, waits`, async () => {
        const { metadata, status } = (await read(name)) ?? {};
        return metadata?.finalizers?.join() === FINALIZER && status?.phase === 'Released';
      });
      const uid = (await read(name))?.metadata?.uid ?? '';
      assert.ok((await act(reclaim.observeReleasedVolume, [{ name, uid }])).volume, taker);
      await act(reclaim.deleteVolume, [{ name, uid }]);
      await gone(name);
    }
  });

  it('does not hold the volume that a run takes back before any claim had it', async () => {
    const { claim, dataVolume, name, publication } = await prepare();
    const { spec, ...body } = volumeBody(publication, 'workflow-1');
    // of a claim that nobody creates: Kubernetes binds it to none
    const claimRef = { namespace, name: 'later' };
    await kubernetes.core.createPersistentVolume({ body: { ...body, spec: { ...spec, claimRef } } });
    await phase(name, 'Available');
    await act(volumes.deleteUnpublishedVolume, [{ dataVolume, claim }]);
    await gone(name);
  });

  it('makes the volume of a run anew when somebody deletes it before it is Bound', async () => {
    const { claim, name, publication } = await prepare();
    const { spec, ...body } = volumeBody(publication, 'workflow-1');
    // of a claim that nobody creates: Kubernetes binds it to none
    const claimRef = { namespace, name: 'later' };
    await kubernetes.core.createPersistentVolume({ body: { ...body, spec: { ...spec, claimRef } } });
    await phase(name, 'Available');
    await remove(name);
    assert.ok((await look(name))?.includes(FINALIZER));
    await rejectsForNow(
      act(volumes.publishVolume, [publication]),
      'KubernetesUnavailable',
      /of an earlier attempt is being removed$/,
    );
    await gone(name);
    assert.deepEqual(await act(volumes.publishVolume, [publication], { attempt: 2 }), { volume: name });
    assert.equal((await read(name))?.spec?.claimRef?.uid, claim.uid);
  });

  it('ends a publication whose volume was deleted when it was Bound', async () => {
    const { name, publication } = await publish();
    await remove(name);
    assert.deepEqual(await act(volumes.publishVolume, [publication], { attempt: 2 }), { volume: name });
  });

  it('has a deleted volume that was made free again emptied, since Kubernetes never releases it', async () => {
    const { name, uid } = await publish();
    await removeClaim();
    await phase(name, 'Released');
    await change(name, { spec: { claimRef: null } });
    await phase(name, 'Available');
    assert.equal(finalizerStep((await read(name))!), undefined);
    await remove(name);
    await look(name);
    await phase(name, 'Released');
    assert.ok((await act(reclaim.observeReleasedVolume, [{ name, uid }])).volume);
    await act(reclaim.deleteVolume, [{ name, uid }]);
    await gone(name);
  });
});
