/** What KubeVirt needs of the DataVolumes that it makes of `dataVolumeTemplates` (`clients.md` §3). */
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from './images.js';
import { claimOwner, useMachines, type MachinesScene } from './machines-scene.js';
import { assertSameDisk, eventually } from './world.js';

const MiB = 1 << 20;
const IMMEDIATE = { 'cdi.kubevirt.io/storage.bind.immediate.requested': '' };
const STORAGE = {
  storageClassName: 'hostpath-provisioner',
  resources: { requests: { storage: '64Mi' } },
};

describe('a virtual machine with dataVolumeTemplates', function () {
  this.timeout(120_000);
  const stack = useStack();
  const machines = useMachines(stack);
  let scene: MachinesScene;
  let images: Images;
  let server: FileServer;

  before(async () => {
    scene = machines();
    images = await makeImages({ sizeMiB: 32, dataMiB: 24 });
    server = await startFileServer({ path: await images.as('qcow2') });
  });
  after(async () => {
    await server.close();
    await images.remove();
  });

  /** Creates a machine whose one disk has the machine's name. */
  async function create(
    name: string,
    {
      running = false,
      annotations = {},
      spec = {},
    }: { running?: boolean; annotations?: object; spec?: object } = {},
  ): Promise<void> {
    const source = { http: { url: server.url } };
    const template = { metadata: { name, annotations }, spec: { source, storage: STORAGE, ...spec } };
    const machine = {
      apiVersion: 'kubevirt.io/v1',
      kind: 'VirtualMachine',
      metadata: { name, namespace: scene.namespace },
      spec: {
        running,
        dataVolumeTemplates: [template],
        template: {
          spec: {
            domain: { devices: { disks: [{ disk: { bus: 'virtio' }, name: 'root' }] } },
            volumes: [{ name: 'root', dataVolume: { name } }],
          },
        },
      },
    };
    await stack.kubectl(['create', '-f', '-'], { input: JSON.stringify(machine) });
  }

  async function remove(name: string, ...options: string[]): Promise<void> {
    await stack.kubectl(['delete', 'vm', name, '-n', scene.namespace, ...options]);
  }

  const uidOf = async (name: string): Promise<string> =>
    await stack.kubectl(['get', 'vm', name, '-n', scene.namespace, '-o', 'jsonpath={.metadata.uid}']);

  const awaitGone = async (what: string, look: () => Promise<unknown>): Promise<void> =>
    void (await eventually(`${what} is gone`, 60_000, async () => ((await look()) ? undefined : true)));

  it('that is halted gets its disk nevertheless, and may start only when that is complete', async () => {
    const { world, namespace } = scene;
    server.setRate(8 * MiB);
    await create('halted', { annotations: IMMEDIATE });
    await world.awaitPhase(namespace, 'halted', 'ImportInProgress');
    assert.deepEqual(await scene.said('halted', 'templates are not ready'), ['templates are not ready']);
    server.setRate(undefined);
    assert.deepEqual(await scene.said('halted', 'may start'), ['templates are not ready', 'may start']);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'halted'));
  });

  it('owns its DataVolume, which owns its claim from the first moment on: it never looks populated', async () => {
    const { world, namespace, claims } = scene;
    const made = await world.read(namespace, 'halted');
    assert.ok(made);
    const { name, uid, ...metadata } = made.metadata as typeof made.metadata & {
      ownerReferences: readonly { kind: string; uid: string }[];
      labels: Record<string, string>;
    };
    assert.equal(metadata.labels['kubevirt.io/created-by'], await uidOf('halted'));
    assert.deepEqual(
      metadata.ownerReferences.map((owner) => [owner.kind, owner.uid]),
      [['VirtualMachine', await uidOf('halted')]],
    );
    assert.equal(metadata.annotations?.['cdi.kubevirt.io/allowClaimAdoption'], 'true');
    assert.equal(made.status?.claimName, name);
    const states = claims.filter((claim) => claim.metadata?.name === 'halted');
    assert.ok(states.some(({ status }) => status?.phase === 'Pending') && states.length > 1);
    for (const claim of states) {
      assert.deepEqual(claim.metadata?.ownerReferences, [claimOwner({ name, uid })]);
      assert.equal(claim.metadata?.annotations?.['cdi.kubevirt.io/createdForDataVolume'], uid);
      assert.equal(claim.metadata?.labels?.['kubevirt.io/created-by'], await uidOf('halted'));
    }
  });

  it('takes its DataVolume, claim, volume and data with it', async () => {
    const { world, namespace } = scene;
    const before = await world.inventory();
    const claim = await world.claim(namespace, 'halted');
    const { uid } = (await world.read(namespace, 'halted'))!.metadata;
    const { volumeName = '' } = claim?.spec ?? {};
    assert.ok(before.includes(`volume ${volumeName}`));
    await remove('halted');
    await awaitGone('the DataVolume', () => world.read(namespace, 'halted'));
    await awaitGone('the claim', () => world.claim(namespace, 'halted'));
    const own = [`claim ${namespace}/halted`, volumeName, claim?.metadata?.uid ?? '', uid];
    await world.assertUnchanged(before.filter((line) => !own.some((name) => line.includes(name))));
  });

  it('starts by a throw-away pod where the class waits for a consumer, and its own pod finds the disk complete', async () => {
    const { world, namespace, pods } = scene;
    server.setRate(8 * MiB);
    await create('running', { running: true });
    await world.awaitPhase(namespace, 'running', 'ImportInProgress');
    const dataVolume = await world.read(namespace, 'running');
    assert.equal(dataVolume?.metadata.annotations?.['cdi.kubevirt.io/storage.usePopulator'], 'false');
    await scene.said('running', 'waiting');
    assert.deepEqual(pods, [{ name: 'provision-running', ephemeral: true }]);
    assert.equal((await world.claim(namespace, 'running'))?.status?.phase, 'Pending');
    server.setRate(undefined);
    const states = await scene.said('running', 'starts');
    assert.deepEqual(states, ['templates are not ready', 'first consumer', 'waiting', 'starts']);
    await eventually('its pod', 30_000, async () => pods[1]);
    assert.deepEqual(pods[1], { name: 'virt-launcher-running', ephemeral: false });
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'running'));
    await remove('running');
    await awaitGone('the claim', () => world.claim(namespace, 'running'));
  });

  it('leaves its disk behind where it is asked to', async () => {
    const { world, namespace } = scene;
    await create('orphaned', { annotations: IMMEDIATE });
    await scene.said('orphaned', 'may start');
    await remove('orphaned', '--cascade=orphan');
    await pause(3_000);
    assert.equal((await world.read(namespace, 'orphaned'))?.status?.phase, 'Succeeded');
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'orphaned'));
    await stack.kubectl(['delete', 'dv', 'orphaned', '-n', namespace, '--cascade=orphan']);
    await pause(3_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'orphaned'));
  });

  it('adopts the claim that is there already, at once and with its disk as it is', async () => {
    const { world, namespace } = scene;
    const disk = await world.diskOf(namespace, 'orphaned');
    await create('orphaned', { annotations: IMMEDIATE });
    await scene.said('orphaned', 'may start', 20_000);
    const { metadata } = (await world.read(namespace, 'orphaned'))!;
    const claim = await world.claim(namespace, 'orphaned');
    assert.deepEqual({ ...claim?.metadata?.ownerReferences?.[0] }, claimOwner(metadata));
    assert.equal(await world.diskOf(namespace, 'orphaned'), disk);
    await assertSameDisk(images.raw, 'raw', disk);
    await remove('orphaned');
    await awaitGone('the adopted claim', () => world.claim(namespace, 'orphaned'));
  });

  it('does not start on the claim of somebody else', async () => {
    const { world, namespace } = scene;
    const owner = { apiVersion: 'v1', kind: 'ConfigMap', name: 'theirs', uid: '' };
    const made = await world.core.createNamespacedConfigMap({
      namespace,
      body: { metadata: { name: 'theirs' } },
    });
    await world.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: {
          name: 'foreign',
          ownerReferences: [{ ...owner, uid: made.metadata!.uid!, controller: true }],
        },
        spec: { ...STORAGE, accessModes: ['ReadWriteOnce'] },
      },
    });
    await create('foreign', { annotations: IMMEDIATE });
    const failed = await world.awaitPhase(namespace, 'foreign', 'Failed');
    assert.equal(failed.status?.conditions?.find(({ type }) => type === 'Ready')?.reason, 'ResourceExists');
    assert.deepEqual(await scene.said('foreign', 'templates are not ready'), ['templates are not ready']);
    await remove('foreign');
    assert.ok(await world.claim(namespace, 'foreign'), 'the claim was not its own');
  });

  it('that is restored gets no claim but the one that is restored for it', async () => {
    const { world, namespace } = scene;
    const restoring = { 'cdi.kubevirt.io/storage.prePopulated': 'true', 'restore.kubevirt.io/name': 'r' };
    await create('restored', { annotations: { ...IMMEDIATE, ...restoring } });
    await world.awaitPhase(namespace, 'restored', 'Pending');
    await pause(3_000);
    assert.equal(await world.claim(namespace, 'restored'), undefined);
    await world.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: {
          name: 'restored',
          annotations: { 'cdi.kubevirt.io/storage.populatedFor': 'restored' },
        },
        spec: { ...STORAGE, accessModes: ['ReadWriteOnce'] },
      },
    });
    await scene.said('restored', 'may start', 20_000);
    const { metadata } = (await world.read(namespace, 'restored'))!;
    const claim = await world.claim(namespace, 'restored');
    assert.deepEqual({ ...claim?.metadata?.ownerReferences?.[0] }, claimOwner(metadata));
    await remove('restored');
    await awaitGone('the restored claim', () => world.claim(namespace, 'restored'));
  });

  it('finds all that KubeVirt waits for before it works', async () => {
    for (const plural of ['datavolumes', 'datasources', 'storageprofiles', 'cdis', 'cdiconfigs'])
      await scene.world.custom.listClusterCustomObject({
        group: 'cdi.kubevirt.io',
        version: 'v1beta1',
        plural,
      });
    const overhead = '{.status.filesystemOverhead.global}';
    assert.match(
      await stack.kubectl(['get', 'cdiconfig', 'config', '-o', `jsonpath=${overhead}`]),
      /^0\.\d+$/,
    );
    const sets = '{.status.claimPropertySets[0].accessModes[0]}';
    assert.equal(
      await stack.kubectl(['get', 'storageprofile', 'hostpath-provisioner', '-o', `jsonpath=${sets}`]),
      'ReadWriteOnce',
    );
  });
});
