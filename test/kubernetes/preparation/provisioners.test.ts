import assert from 'node:assert/strict';
import type { V1StorageClass } from '@kubernetes/client-node';
import { createKubernetes, type Kubernetes } from '../../../activities/kubernetes/client.js';
import { createPreparationActivities } from '../../../activities/kubernetes/preparation/index.js';
import type { WatchedProvisioner } from '../../../activities/kubernetes/preparation/objects.js';
import { listOrphans } from '../../../activities/kubernetes/preparation/orphans.js';
import { PROVISIONERS } from '../../../activities/kubernetes/preparation/provisioners.js';
import type { PreparationControlActivities } from '../../../activities/preparation-interfaces.js';
import type { ProvisionerFacts } from '../../../activities/types/preparation.js';
import { useControlPlane } from '../support/control-plane.js';
import { act, plain, rejects } from '../support/fixtures.js';

describe('HostPathProvisioners on a real API server', function () {
  this.timeout(30_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  let kubernetes: Kubernetes;
  let activities: PreparationControlActivities;
  let count = 0;
  const made: string[] = [];

  before(() => {
    admin = plane().admin;
    kubernetes = createKubernetes(plane().control);
    const { temporal } = plane();
    activities = createPreparationActivities({ kubernetes, temporal, temporalNamespace: 'default' });
  });
  afterEach(async () => {
    for (const name of made.splice(0)) await remove(name);
  });

  const unique = (): string => {
    const name = `hpp-${(count += 1)}`;
    made.push(name);
    return name;
  };
  const remove = async (name: string): Promise<void> => {
    await admin.custom.deleteClusterCustomObject({ ...PROVISIONERS, name }).catch(() => undefined);
  };
  const get = async (name: string, version = 'v1beta1'): Promise<WatchedProvisioner> =>
    (await admin.custom.getClusterCustomObject({ ...PROVISIONERS, version, name })) as WatchedProvisioner;
  const open = (input: Parameters<typeof activities.openHostPathProvisioner>[0], workflowId = 'wf-1') =>
    act((one: typeof input) => activities.openHostPathProvisioner(one), [input], { workflowId, attempt: 3 });
  const opened = async (
    input: Parameters<typeof activities.openHostPathProvisioner>[0],
  ): Promise<ProvisionerFacts> => {
    const { provisioner } = await open(input);
    assert.ok(provisioner);
    return provisioner;
  };
  const manifest = (
    name: string,
    spec: object = { pathConfig: { path: '/var/hpvolumes' } },
    annotations = {},
  ) => ({
    metadata: { name, annotations },
    spec: spec as Record<string, unknown>,
  });

  it('are made from a manifest of v1alpha1 with its string, once, by the impersonated user', async () => {
    const name = unique();
    const yaml =
      `apiVersion: hostpathprovisioner.kubevirt.io/v1alpha1\nkind: HostPathProvisioner\nmetadata: {name: ${name}}\n` +
      'spec: {imagePullPolicy: IfNotPresent, pathConfig: {path: /var/hpvolumes, useNamingPrefix: "false"}}\n';
    const first = await opened({ manifest: yaml });
    assert.deepEqual(first.directories, [{ pool: 'legacy', path: '/var/hpvolumes' }]);
    assert.deepEqual(await opened({ manifest: yaml }), first, 'a second attempt makes nothing new');
    const found = await get(name);
    assert.equal(found.metadata.annotations?.['dvflow.io/workflow-id'], 'wf-1');
    assert.deepEqual(plain(found.spec), plain((await get(name, 'v1alpha1')).spec));
    await rejects(
      open({ manifest: yaml }, 'wf-2'),
      'ResourceExists',
      /already exists and is not of this workflow/,
    );
  });

  for (const [title, spec, why] of [
    ['a directory in /', { pathConfig: { path: '/hpvolumes' } }, /lies in the root directory/],
    [
      'both kinds',
      { pathConfig: { path: '/var/a' }, storagePools: [{ name: 'a', path: '/var/b' }] },
      /cannot be both set/,
    ],
    ['an unknown field', { pathConfig: { path: '/var/a' }, paths: [] }, /unknown field "spec.paths"/],
    ['no path', { pathConfig: {} }, /pathconfig path must be set/],
  ] as const) {
    it(`are not made of ${title}`, async () => {
      const name = unique();
      await rejects(open({ manifest: manifest(name, spec) }), 'InvalidHostPathProvisioner', why);
      await assert.rejects(get(name), { code: 404 });
    });
  }

  it('need the right of their own', async () => {
    const { temporal } = plane();
    const other = createPreparationActivities({ kubernetes, temporal, temporalNamespace: 'other' });
    const input = { manifest: manifest(unique()) };
    // the control role may not even become that user
    await rejects(
      act((one: typeof input) => other.openHostPathProvisioner(one), [input]),
      'KubernetesUnavailable',
      /impersonate/,
      true,
    );
  });

  it('are read by name and uid, and gone under another uid', async () => {
    const { name, uid } = await opened({ manifest: manifest(unique()) });
    assert.equal((await opened({ ref: { name, uid } })).generation, 1);
    assert.deepEqual(await open({ ref: { name, uid: 'other' } }), {});
    await remove(name);
    assert.deepEqual(await open({ ref: { name, uid } }), {});
  });

  it('tell conditions, nodes and generation in both versions', async () => {
    const { name, uid } = await opened({
      manifest: manifest(unique(), { storagePools: [{ name: 'local', path: '/var/a' }] }),
    });
    const update = {
      provisioner: { name, uid },
      generation: 1,
      conditions: [
        { type: 'Available', status: 'True', reason: 'Complete', message: '1 of 1 nodes are ready' } as const,
      ],
      nodes: [{ name: 'n1', phase: 'Ready', message: '/var/a ready' } as const],
      pools: ['local'],
    };
    assert.deepEqual(await activities.recordPreparation(update), { exists: true });
    for (const version of ['v1beta1', 'v1alpha1']) {
      const { status } = (await get(name, version)) as { status?: Record<string, unknown> };
      assert.deepEqual([status?.observedGeneration, status?.nodes], [1, update.nodes]);
      assert.deepEqual(status?.storagePoolStatuses, [
        { name: 'local', phase: 'Ready', desiredReady: 1, currentReady: 1 },
      ]);
    }
    assert.deepEqual(await activities.recordPreparation({ ...update, provisioner: { name, uid: 'x' } }), {
      exists: false,
    });
  });

  it('say what happens in events, the same once', async () => {
    const { name, uid } = await opened({ manifest: manifest(unique()) });
    const event = { type: 'Warning', reason: 'PoolPathSharedWithOS', message: 'shared' } as const;
    const say = () =>
      act(
        (input: Parameters<typeof activities.recordPreparationEvent>[0]) =>
          activities.recordPreparationEvent(input),
        [{ provisioner: { name, uid }, event }],
      );
    await say();
    await say();
    const { items } = await admin.core.listNamespacedEvent({
      namespace: 'default',
      fieldSelector: `involvedObject.uid=${uid}`,
    });
    assert.deepEqual(
      items.map(({ reason, count, involvedObject }) => [reason, count, involvedObject.kind]),
      [['PoolPathSharedWithOS', 1, 'HostPathProvisioner']],
    );
  });

  describe('their StorageClasses', () => {
    const read = async (name: string): Promise<V1StorageClass | undefined> =>
      await admin.storage.readStorageClass({ name }).catch(() => undefined);
    afterEach(async () => {
      const { items } = await admin.storage.listStorageClass();
      for (const { metadata } of items)
        if (metadata?.name?.startsWith('asked-'))
          await admin.storage.deleteStorageClass({ name: metadata.name });
    });
    const asking = async (classes: string, spec?: object): Promise<ProvisionerFacts> =>
      await opened({ manifest: manifest(unique(), spec, { 'dvflow.io/storage-class': classes }) });

    it('are made when asked for, once, and none else', async () => {
      const nothing = await activities.ensureStorageClasses({
        provisioner: await opened({ manifest: manifest(unique()) }),
      });
      assert.deepEqual(nothing, { classes: [], created: [] });
      const provisioner = await asking('asked-legacy');
      const results = await Promise.all(
        [1, 2, 3].map(() => activities.ensureStorageClasses({ provisioner })),
      );
      assert.deepEqual(
        results.flatMap(({ created }) => created),
        ['asked-legacy'],
      );
      const found = await read('asked-legacy');
      assert.deepEqual(
        [found?.provisioner, found?.reclaimPolicy, found?.volumeBindingMode],
        ['kubevirt.io/hostpath-provisioner', 'Delete', 'WaitForFirstConsumer'],
      );
    });

    it('are of the driver with the dot for a named pool, and cannot be changed afterwards', async () => {
      const spec = { storagePools: [{ name: 'local', path: '/var/a' }] };
      await activities.ensureStorageClasses({ provisioner: await asking('local=asked-csi', spec) });
      const found = await read('asked-csi');
      assert.equal(found?.provisioner, 'kubevirt.io.hostpath-provisioner');
      assert.deepEqual(found.parameters, { storagePool: 'local' });
      const changed = { ...found, parameters: { storagePool: 'other' } };
      await assert.rejects(
        admin.storage.replaceStorageClass({ name: 'asked-csi', body: changed }),
        /parameters: Forbidden/,
      );
    });

    it("may be an administrator's, and are then left alone; another one is refused with both", async () => {
      const body = {
        metadata: { name: 'asked-mine' },
        provisioner: 'kubevirt.io/hostpath-provisioner',
        reclaimPolicy: 'Retain',
      };
      await admin.storage.createStorageClass({ body });
      const provisioner = await asking('asked-mine');
      assert.deepEqual((await activities.ensureStorageClasses({ provisioner })).created, []);
      await remove(provisioner.name);
      await activities.removePreparation({ provisioner });
      assert.equal((await read('asked-mine'))?.reclaimPolicy, 'Retain');
      await admin.storage.createStorageClass({
        body: { metadata: { name: 'asked-ceph' }, provisioner: 'rbd.csi.ceph.com' },
      });
      await rejects(
        activities.ensureStorageClasses({ provisioner: await asking('asked-ceph') }),
        'ResourceExists',
        /asked-ceph exists with provisioner rbd.csi.ceph.com and pool legacy, not with kubevirt.io\/hostpath-provisioner/,
      );
    });

    it('wait for those of an earlier object of this name to be gone', async () => {
      const before = await asking('asked-again');
      await activities.ensureStorageClasses({ provisioner: before });
      const after = { ...before, uid: '99999999-2222-3333-4444-555555555555' };
      await rejects(
        activities.ensureStorageClasses({ provisioner: after }),
        'KubernetesUnavailable',
        /StorageClass asked-again is of an earlier HostPathProvisioner and is being removed/,
        true,
      );
      await remove(before.name);
      await activities.removePreparation({ provisioner: before });
      assert.deepEqual((await activities.ensureStorageClasses({ provisioner: after })).created, [
        'asked-again',
      ]);
    });

    it("may be somebody's copies of one, and are then left alone", async () => {
      const provisioner = await asking('asked-1');
      await activities.ensureStorageClasses({ provisioner });
      const made = await read('asked-1');
      const { labels = {}, annotations = {} } = made?.metadata ?? {};
      await admin.storage.createStorageClass({
        body: { metadata: { name: 'asked-copy', labels, annotations }, provisioner: made?.provisioner ?? '' },
      });
      await activities.ensureStorageClasses({ provisioner });
      await remove(provisioner.name);
      const removed = await activities.removePreparation({ provisioner });
      assert.deepEqual(removed.storageClasses, ['asked-1']);
      assert.ok(await read('asked-copy'));
      assert.deepEqual(await listOrphans(kubernetes), []);
    });

    it('are known by the run that made them, whichever attempt it was', async () => {
      const provisioner = await asking('asked-run');
      const ensure = async (runId: string): Promise<readonly string[]> =>
        (
          await act(
            (input: Parameters<typeof activities.ensureStorageClasses>[0]) =>
              activities.ensureStorageClasses(input),
            [{ provisioner }],
            { runId },
          )
        ).created;
      assert.deepEqual(await ensure('run-1'), ['asked-run']);
      assert.deepEqual(await ensure('run-1'), ['asked-run']);
      assert.deepEqual(await ensure('run-2'), []);
    });

    it('that the API server does not take are a mistake in the HostPathProvisioner', async () => {
      const provisioner = {
        ...(await asking('asked-1')),
        storageClasses: [{ name: 'a..b', pool: 'legacy' }],
      };
      await rejects(
        activities.ensureStorageClasses({ provisioner }),
        'InvalidHostPathProvisioner',
        /creating StorageClass a..b: .*Invalid value/,
      );
    });

    it('go when they are not asked for any more, with the HostPathProvisioner, and after it', async () => {
      const provisioner = await asking('asked-1');
      await activities.ensureStorageClasses({ provisioner });
      const renamed = { ...provisioner, storageClasses: [{ name: 'asked-2', pool: 'legacy' }] };
      await activities.ensureStorageClasses({ provisioner: renamed });
      assert.deepEqual(
        [await read('asked-1'), (await read('asked-2'))?.metadata?.name],
        [undefined, 'asked-2'],
      );
      assert.deepEqual(await listOrphans(kubernetes), []);
      await remove(provisioner.name);
      const orphan = { name: provisioner.name, uid: provisioner.uid };
      assert.deepEqual(await listOrphans(kubernetes), [orphan]);
      const removed = await activities.removePreparation({ provisioner: orphan });
      assert.deepEqual(removed, { machineConfigs: [], pools: [], storageClasses: ['asked-2'] });
      assert.deepEqual(await activities.removePreparation({ provisioner: orphan }), {
        ...removed,
        storageClasses: [],
      });
    });
  });

  it('lose nothing of what was made for them while they live, whatever name somebody gives', async () => {
    const asked = { 'dvflow.io/storage-class': 'living' };
    const provisioner = await opened({ manifest: manifest(unique(), undefined, asked) });
    await activities.ensureStorageClasses({ provisioner });
    await rejects(
      activities.removePreparation({ provisioner: { name: 'typo', uid: provisioner.uid } }),
      'InvalidHostPathProvisioner',
      /is that of HostPathProvisioner hpp-\d+, which is not gone: nothing is removed/,
    );
    assert.ok(await admin.storage.readStorageClass({ name: 'living' }));
    await admin.storage.deleteStorageClass({ name: 'living' });
  });

  for (const [status, starts] of [
    ['CANCELLED', false],
    ['TERMINATED', false],
    ['COMPLETED', true],
  ] as const) {
    it(`are ${starts ? '' : 'not '}looked at again for the start of a node worker after a run that is ${status}`, async () => {
      const { name, uid, generation } = await opened({ manifest: manifest(unique()) });
      await activities.recordPreparation({
        provisioner: { name, uid },
        generation,
        conditions: [],
        nodes: [],
      });
      const started: string[] = [];
      // Temporal as far as it is asked: the last run is over
      const workflow = {
        getHandle: (id: string) => ({
          describe: async () => ({
            type: id === 'wf-1' ? 'other' : 'prepareStorage',
            status: { name: status },
          }),
        }),
        signalWithStart: async (_type: string, { workflowId }: { workflowId: string }) =>
          started.push(workflowId),
      };
      const told = createPreparationActivities({
        kubernetes,
        temporal: { workflow } as never,
        temporalNamespace: 'default',
      });
      await told.recheckPreparation({ provisioner: { name, uid } });
      assert.deepEqual(started, starts ? [`hostpathprovisioner/${name}/${uid}`] : []);
    });
  }

  it('choose no node when they are gone, or others by now', async () => {
    const somewhere = { pathConfig: { path: '/var/a' }, workload: { nodeSelector: { disk: 'ssd' } } };
    const { name, uid } = await opened({ manifest: manifest(unique(), somewhere) });
    const other = await activities.selectNodes({ provisioner: { name, uid: 'other' } });
    assert.deepEqual([other.selected, other.gone], [[], true]);
    await remove(name);
    const gone = await activities.selectNodes({ provisioner: { name, uid } });
    assert.deepEqual([gone.selected, gone.gone], [[], true]);
  });

  it('choose nodes as they are now, on a cluster without MachineConfigs', async () => {
    const { name, uid } = await opened({ manifest: manifest(unique()) });
    const { selected, machineConfigs } = await activities.selectNodes({ provisioner: { name, uid } });
    assert.deepEqual([selected, machineConfigs], [[{ node: plane().info.node, labelledBy: 'node' }], false]);
    const nowhere = { pathConfig: { path: '/var/a' }, workload: { nodeSelector: { disk: 'ssd' } } };
    const other = await opened({ manifest: manifest(unique(), nowhere) });
    assert.deepEqual((await activities.selectNodes({ provisioner: other })).selected, []);
  });
});
