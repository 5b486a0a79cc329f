import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StorageV1Api } from '@kubernetes/client-node';
import { awaitQuota } from '../support/quota.js';
import { useStack } from '../support/stack.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { makeImages, type Images } from './images.js';
import { recordHistory } from './record.js';
import { assertSameDisk, createWorld, eventually, type DataVolume, type World } from './world.js';

const MiB = 1 << 20;
const WAITS_FOR_CONSUMER = { 'cdi.kubevirt.io/storage.bind.immediate.requested': undefined };

describe('claims and volumes', function () {
  this.timeout(120_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let server: FileServer;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 16, dataMiB: 8 });
    server = await startFileServer({ path: await images.as('qcow2') });
    namespace = await world.createNamespace('claims');
  });
  after(async () => {
    await server.close();
    await images.remove();
  });

  const idOf = ({ metadata: { namespace: space, name, uid } }: DataVolume) =>
    `datavolume/${space}/${name}/${uid}`;

  async function existingClaim(name: string, annotations: Record<string, string> = {}): Promise<void> {
    await world.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: { name, annotations },
        spec: {
          accessModes: ['ReadWriteOnce'],
          storageClassName: 'hostpath-provisioner',
          resources: { requests: { storage: '64Mi' } },
        },
      },
    });
  }

  async function hold(name: string, finalizers: readonly string[] | null): Promise<void> {
    const patch = JSON.stringify({ metadata: { finalizers } });
    await stack.kubectl(['patch', 'pvc', name, '-n', namespace, '--type=merge', '-p', patch]);
  }

  it("refuses a claim of the same name that is not the DataVolume's: ResourceExists, and leaves it alone", async () => {
    await existingClaim('taken');
    await world.createImport(namespace, 'taken', { url: server.url });
    const failed = await world.awaitPhase(namespace, 'taken', 'Failed', 30_000);
    assert.equal(failed.status?.conditions?.find(({ type }) => type === 'Running')?.reason, 'ResourceExists');
    assert.equal((await world.claim(namespace, 'taken'))?.metadata?.ownerReferences, undefined);
  });

  it('says of a disk that was complete and whose claim is deleted that there is none: not Bound, not Ready', async () => {
    await world.createImport(namespace, 'gone', { url: server.url });
    await world.awaitPhase(namespace, 'gone', 'Succeeded', 60_000);
    await world.core.deleteNamespacedPersistentVolumeClaim({ namespace, name: 'gone' });
    const found = await eventually('the conditions', 30_000, async () => {
      const read = await world.read(namespace, 'gone');
      return read?.status?.conditions?.some(({ reason }) => reason === 'NotFound') ? read : undefined;
    });
    assert.equal(found.status?.phase, 'Succeeded');
    const said = found.status?.conditions?.map(({ type, status, reason }) => [type, status, reason]);
    assert.deepEqual(said?.sort(), [
      ['Bound', 'False', 'NotFound'],
      ['Ready', 'False', 'NotFound'],
      ['Running', 'False', 'Completed'],
    ]);
  });

  it('waits for the claim of an earlier DataVolume of its name as long as that is held, says so, and goes on at once', async () => {
    const first = await world.createImport(namespace, 'again', { url: server.url });
    await world.awaitPhase(namespace, 'again', 'Succeeded', 60_000);
    // as a pod does that uses it
    await hold('again', ['example.com/hold']);
    await world.remove(namespace, 'again');
    const second = await world.createImport(namespace, 'again', { url: server.url });
    assert.notEqual(second.metadata.uid, first.metadata.uid);
    const waiting = await eventually('the reason', 20_000, async () => {
      const read = await world.read(namespace, 'again');
      const running = read?.status?.conditions?.find(({ type }) => type === 'Running');
      return running?.reason === 'ErrResourceMarkedForDeletion' ? running : undefined;
    });
    assert.match(waiting.message, /again belongs to an earlier DataVolume again and is being removed/);
    await hold('again', null);
    await world.awaitPhase(namespace, 'again', 'Succeeded', 60_000);
    const said = (await world.events(namespace, 'again')).map(({ reason }) => reason);
    assert.ok(said.includes('ErrResourceMarkedForDeletion'), said.join());
    await recordHistory(stack, idOf(second), 'importDataVolume.succeeded.after-claim');
  });

  it('takes no claim for a disk that another run is filling still, although it may adopt claims', async () => {
    const slow = await startFileServer({ path: images.raw, bytesPerSecond: 2 * MiB });
    const adopts = { 'cdi.kubevirt.io/allowClaimAdoption': 'true' };
    try {
      await world.createImport(namespace, 'orphaned', { url: slow.url }, {}, adopts);
      await world.awaitPhase(namespace, 'orphaned', 'ImportInProgress', 30_000);
      const first = await world.claim(namespace, 'orphaned');
      await stack.kubectl(['delete', 'dv', 'orphaned', '-n', namespace, '--cascade=orphan']);
      await world.createImport(namespace, 'orphaned', { url: server.url }, {}, adopts);
      await world.awaitPhase(namespace, 'orphaned', 'Succeeded', 60_000);
      assert.notEqual((await world.claim(namespace, 'orphaned'))?.metadata?.uid, first?.metadata?.uid);
      await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'orphaned'));
    } finally {
      await slow.close();
    }
  });

  it('adopts a claim that a backup restored (populatedFor): Succeeded at once, owner set, nothing read', async () => {
    await existingClaim('restored', { 'cdi.kubevirt.io/storage.populatedFor': 'restored' });
    const asked = server.requests().length;
    const made = await world.createImport(namespace, 'restored', { url: server.url });
    await world.awaitPhase(namespace, 'restored', 'Succeeded', 30_000);
    assert.equal(server.requests().length, asked);
    assert.equal(
      (await world.claim(namespace, 'restored'))?.metadata?.ownerReferences?.[0]?.uid,
      made.metadata.uid,
    );
    await recordHistory(stack, idOf(made), 'importDataVolume.succeeded.adopted');
  });

  it('says of an adopted claim that it is not Bound until it is, for all who wait for that', async () => {
    await existingClaim('unbound', { 'cdi.kubevirt.io/storage.populatedFor': 'unbound' });
    await world.createImport(namespace, 'unbound', { url: server.url });
    const adopted = await world.awaitPhase(namespace, 'unbound', 'Succeeded', 30_000);
    const bound = (made?: DataVolume): string => {
      const found = made?.status?.conditions?.find(({ type }) => type === 'Bound');
      return `${found?.status} ${found?.message}`;
    };
    assert.equal(bound(adopted), 'False PVC unbound Pending');
    const node = `kubevirt.io/provisionOnNode=${stack.info.node}`;
    await stack.kubectl(['annotate', 'pvc', 'unbound', '-n', namespace, node]);
    await eventually('the condition', 30_000, async () =>
      bound(await world.read(namespace, 'unbound')) === 'True PVC unbound Bound' ? true : undefined,
    );
  });

  it('waits for the claim of a prePopulated DataVolume, and makes none', async () => {
    await world.createImport(
      namespace,
      'later',
      { url: server.url },
      {},
      { 'cdi.kubevirt.io/storage.prePopulated': 'later' },
    );
    await world.awaitPhase(namespace, 'later', 'Pending', 30_000);
    assert.equal(await world.claim(namespace, 'later'), undefined);
    await existingClaim('later', { 'cdi.kubevirt.io/storage.populatedFor': 'later' });
    await world.awaitPhase(namespace, 'later', 'Succeeded', 60_000);
  });

  it('fills the volume where the scheduler puts the first pod that uses the claim', async () => {
    const made = await world.createImport(
      namespace,
      'scheduled',
      { url: server.url },
      {},
      WAITS_FOR_CONSUMER,
    );
    await world.awaitPhase(namespace, 'scheduled', 'WaitForFirstConsumer', 20_000);
    await world.core.createNamespacedPod({
      namespace,
      body: {
        metadata: { name: 'consumer' },
        spec: {
          containers: [{ name: 'qemu', image: 'none', volumeMounts: [{ name: 'disk', mountPath: '/disk' }] }],
          volumes: [{ name: 'disk', persistentVolumeClaim: { claimName: 'scheduled' } }],
        },
      },
    });
    await world.awaitPhase(namespace, 'scheduled', 'Succeeded', 60_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'scheduled'));
    await recordHistory(stack, idOf(made), 'importDataVolume.succeeded.first-consumer');
    await world.core.deleteNamespacedPod({ namespace, name: 'consumer', gracePeriodSeconds: 0 });
  });

  it('is filled without a consumer once the annotation that its message names is set', async () => {
    const made = await world.createImport(
      namespace,
      'after-all',
      { url: server.url },
      {},
      WAITS_FOR_CONSUMER,
    );
    const waiting = await world.awaitPhase(namespace, 'after-all', 'WaitForFirstConsumer', 20_000);
    const running = waiting.status?.conditions?.find(({ type }) => type === 'Running');
    const [named = ''] = /cdi\.kubevirt\.io\/[\w.]+/.exec(running?.message ?? '') ?? [];
    await world.annotate(namespace, 'after-all', { [named]: '' });
    await world.awaitPhase(namespace, 'after-all', 'Succeeded', 60_000);
    await recordHistory(stack, idOf(made), 'importDataVolume.succeeded.after-all');
  });

  it("answers a scheduler's choice without room: selected-node is taken back, the event has both figures", async () => {
    const storage = { resources: { requests: { storage: '4Pi' } }, storageClassName: 'hostpath-provisioner' };
    const made = await world.createImport(
      namespace,
      'too-large',
      { url: server.url },
      { storage },
      WAITS_FOR_CONSUMER,
    );
    await world.awaitPhase(namespace, 'too-large', 'WaitForFirstConsumer', 20_000);
    await stack.kubectl([
      'annotate',
      'pvc',
      '-n',
      namespace,
      'too-large',
      `volume.kubernetes.io/selected-node=${stack.info.node}`,
    ]);
    await eventually('the event on the claim', 30_000, async () => {
      const events = await world.events(namespace, 'too-large');
      return events.some(
        ({ reason, message }) => reason === 'InsufficientCapacity' && /\d+.*\d+/.test(message),
      )
        ? true
        : undefined;
    });
    await eventually('selected-node is gone', 30_000, async () => {
      const annotations = (await world.claim(namespace, 'too-large'))?.metadata?.annotations ?? {};
      return 'volume.kubernetes.io/selected-node' in annotations ? undefined : true;
    });
    await world.remove(namespace, 'too-large');
    await eventually('the workflow ends', 30_000, async () => {
      const { status } = await stack.temporal.workflow.getHandle(idOf(made)).describe();
      return status.name === 'RUNNING' ? undefined : true;
    });
    await recordHistory(stack, idOf(made), 'importDataVolume.cancelled.no-room-on-node');
  });

  it('keeps the data of a class that retains', async () => {
    await stack.kubeConfig.makeApiClient(StorageV1Api).createStorageClass({
      body: {
        metadata: { name: 'keeps' },
        provisioner: 'kubevirt.io/hostpath-provisioner',
        reclaimPolicy: 'Retain',
        volumeBindingMode: 'Immediate',
      },
    });
    const storage = { resources: { requests: { storage: '64Mi' } }, storageClassName: 'keeps' };
    await world.createImport(namespace, 'kept', { url: server.url }, { storage });
    await world.awaitPhase(namespace, 'kept', 'Succeeded');
    const disk = await world.diskOf(namespace, 'kept');
    const volume = (await world.claim(namespace, 'kept'))!.spec!.volumeName!;
    await world.remove(namespace, 'kept');
    await eventually('Released', 30_000, async () =>
      (await world.core.readPersistentVolume({ name: volume })).status?.phase === 'Released'
        ? true
        : undefined,
    );
    await stat(disk);
    // The administrator's choice is Delete now: then it goes, directory and all.
    await stack.kubectl([
      'patch',
      'pv',
      volume,
      '--type=merge',
      '-p',
      '{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}',
    ]);
    await eventually(
      'the directory is gone',
      30_000,
      async () =>
        await stat(dirname(disk)).then(
          () => undefined,
          () => true,
        ),
    );
    await eventually(
      'the volume is gone',
      30_000,
      async () =>
        await world.core.readPersistentVolume({ name: volume }).then(
          () => undefined,
          () => true,
        ),
    );
  });

  it('waits for room in a quota, and says so where KubeVirt looks', async () => {
    const limited = await world.createNamespace('quota');
    await world.core.createNamespacedResourceQuota({
      namespace: limited,
      body: { metadata: { name: 'disks' }, spec: { hard: { persistentvolumeclaims: '0' } } },
    });
    await awaitQuota(world, limited, { refuses: true });
    const made = await world.createImport(limited, 'waits', { url: server.url });
    await eventually('the condition', 30_000, async () => {
      const bound = (await world.read(limited, 'waits'))?.status?.conditions?.find(
        ({ type }) => type === 'Bound',
      );
      return bound?.reason === 'ErrExceededQuota' && bound.message.includes('exceeded quota')
        ? true
        : undefined;
    });
    await world.core.deleteNamespacedResourceQuota({ namespace: limited, name: 'disks' });
    await world.awaitPhase(limited, 'waits', 'Succeeded', 60_000);
    await recordHistory(stack, idOf(made), 'importDataVolume.succeeded.after-quota');
  });
});
