import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import {
  PatchStrategy,
  setHeaderOptions,
  StorageV1Api,
  type V1PersistentVolumeClaim,
} from '@kubernetes/client-node';
import { makePatterned } from '../image/support/images.js';
import { makeMappedTwice } from '../image/support/mapped-twice.js';
import { startFileServer, type FileServer, type FileServerOptions } from '../support/servers/index.js';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from './images.js';
import { recordHistory } from './record.js';
import { assertSameDisk, createWorld, eventually, type DataVolume, type World } from './world.js';

const MiB = 1 << 20;
const TRANSFERS = 'dvflow-transfers';
/** The time within which somebody must be told what an import waits for. */
const SAID_MS = 30_000;
const HOSTPATH = 'kubevirt.io/hostpath-provisioner';

describe('scratch space of imports', function () {
  this.timeout(240_000);
  const stack = useStack();
  let world: World;
  let storage: StorageV1Api;
  let images: Images;
  let namespace: string;
  let inventory: readonly string[];
  let watched: { stop(): void };
  /** Scratch claims as they were seen, newest first. */
  let seen: V1PersistentVolumeClaim[] = [];
  const servers: FileServer[] = [];

  before(async () => {
    world = createWorld(stack);
    storage = stack.kubeConfig.makeApiClient(StorageV1Api);
    images = await makeImages({ sizeMiB: 48, dataMiB: 16 });
    namespace = await world.createNamespace('scratch');
    for (const [name, provisioner] of [
      ['scratch', HOSTPATH],
      ['ceph', 'rbd.csi.ceph.com'],
    ] as const)
      await storage.createStorageClass({ body: { metadata: { name }, provisioner } });
    watched = stack.watch(`/api/v1/namespaces/${TRANSFERS}/persistentvolumeclaims`, (_, claim) => {
      seen.unshift(claim as V1PersistentVolumeClaim);
    });
  });
  beforeEach(async () => {
    seen = [];
    inventory = await world.inventory();
  });
  after(async () => {
    watched.stop();
    await configure(null);
    for (const name of ['scratch', 'ceph']) await storage.deleteStorageClass({ name });
    await Promise.all(servers.map((server) => server.close()));
    await images.remove();
  });

  async function serve(path: string, options: Omit<FileServerOptions, 'path'> = {}): Promise<FileServer> {
    const server = await startFileServer({ path, ...options });
    servers.push(server);
    return server;
  }
  async function configure(scratchSpaceStorageClass: string | null): Promise<void> {
    const config = { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'cdiconfigs', name: 'config' };
    await world.custom.patchClusterCustomObject(
      { ...config, body: { spec: { scratchSpaceStorageClass } } },
      setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
    );
  }
  const idOf = ({ metadata: { name, uid } }: DataVolume) => `datavolume/${namespace}/${name}/${uid}`;
  const scratchOf = async ({ metadata: { uid } }: DataVolume) =>
    await world.claim(TRANSFERS, `prime-${uid}-scratch`);
  const conditionOf = ({ status }: DataVolume, of: string) =>
    status?.conditions?.find(({ type }) => type === of);
  /** Until condition Running says so. */
  async function said(name: string, reason: string, message: RegExp): Promise<DataVolume> {
    return await eventually(`${name}: ${reason}`, SAID_MS, async () => {
      const found = await world.read(namespace, name);
      const running = found && conditionOf(found, 'Running');
      return running?.reason === reason && message.test(running.message) ? found : undefined;
    });
  }
  /** Everything of a finished import but its claim and its volume is gone. */
  async function assertOnlyTheDisk(name: string): Promise<void> {
    const claim = await world.claim(namespace, name);
    const own = new RegExp(
      `^(claim ${namespace}/${name}$|volume pvc-${claim?.metadata?.uid}$|pool .*pvc-${claim?.metadata?.uid}|pool .dvflow/promises/)`,
    );
    await eventually('nothing but the disk', SAID_MS, async () => {
      const now = await world.inventory();
      const left = now.filter((entry) => !inventory.includes(entry) && !own.test(entry));
      return left.length === 0 ? true : undefined;
    });
    const promises = (await world.inventory()).filter((entry) => entry.startsWith('pool .dvflow/promises/'));
    const before = inventory.filter((entry) => entry.startsWith('pool .dvflow/promises/'));
    assert.equal(promises.length, before.length + 1, promises.join(', '));
  }
  async function transferring(name: string): Promise<{ made: DataVolume; server: FileServer }> {
    const server = await serve(await images.as('vmdk.gz'), { bytesPerSecond: MiB });
    const made = await world.createImport(namespace, name, { url: server.url });
    await eventually('bytes', 90_000, async () => (server.bytesSent() > 3 * MiB ? true : undefined));
    return { made, server };
  }

  it('serves a VMDK in gz: a claim in dvflow-transfers while it runs, said as CDI does, gone afterwards', async () => {
    const { made, server } = await transferring('vmdk-gz');
    const claim = await scratchOf(made);
    assert.equal(claim?.status?.phase, 'Bound');
    assert.equal(claim.spec?.volumeMode ?? 'Filesystem', 'Filesystem');
    const user = await world.claim(namespace, 'vmdk-gz');
    assert.equal(user?.status?.phase, 'Pending');
    assert.equal(user.metadata?.annotations?.['cdi.kubevirt.io/storage.import.requiresScratch'], 'true');
    assert.equal(claim.spec?.resources?.requests?.['storage'], '68Mi');
    server.setRate(undefined);
    await world.awaitPhase(namespace, 'vmdk-gz', 'Succeeded', 90_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'vmdk-gz'));
    await assertOnlyTheDisk('vmdk-gz');
    const events = (await world.events(namespace, 'vmdk-gz')).map(
      ({ reason, message }) => `${reason}: ${message}`,
    );
    assert.ok(events.includes('CreatingScratchSpace: Creating scratch space'), events.join('\n'));
    await recordHistory(stack, idOf(made), 'importDataVolume.succeeded.scratch');
  });

  for (const [form, ranges] of [
    ['vdi', false],
    ['vpc.xz', true],
    ['vhdx.gz', true],
    ['snapshot.gz', true],
    ['snapshot', false],
  ] as const) {
    it(`serves ${form} from a server with${ranges ? '' : 'out'} ranges`, async () => {
      const name = `${form.replace('.', '-')}-${ranges}`;
      const server = await serve(await images.as(form), { ranges });
      await world.createImport(namespace, name, { url: server.url });
      await world.awaitPhase(namespace, name, 'Succeeded', 90_000);
      assert.ok(seen.length > 0, 'there was scratch space');
      const disk = await world.diskOf(namespace, name);
      await assertSameDisk(images.raw, 'raw', disk);
      await assertOnlyTheDisk(name);
    });
  }

  it('serves an image that shows its need on the way only', async () => {
    const image = join(images.directory, 'twice.qcow2');
    const expected = join(images.directory, 'twice.expected');
    makeMappedTwice(makePatterned(join(images.directory, 'twice.raw'), 8), image, expected);
    execFileSync('gzip', ['-1', '-k', image]);
    const server = await serve(`${image}.gz`);
    const made = await world.createImport(namespace, 'on-the-way', { url: server.url });
    await world.awaitPhase(namespace, 'on-the-way', 'Succeeded', 90_000);
    assert.ok(seen.length > 0, 'there was scratch space');
    await assertSameDisk(expected, 'raw', await world.diskOf(namespace, 'on-the-way'));
    await assertOnlyTheDisk('on-the-way');
    await recordHistory(stack, idOf(made), 'importDataVolume.succeeded.scratch-on-the-way');
  });

  it('is not made for what needs none', async () => {
    const server = await serve(await images.as('qcow2.gz'));
    await world.createImport(namespace, 'streamed', { url: server.url });
    await world.awaitPhase(namespace, 'streamed', 'Succeeded', 60_000);
    assert.deepEqual(seen, []);
  });

  it('goes when the import is aborted: the DataVolume deleted while bytes move', async () => {
    const { made } = await transferring('aborted');
    assert.ok(await scratchOf(made));
    await world.remove(namespace, 'aborted');
    await world.assertUnchanged(inventory, 60_000);
    await eventually('the end of the run', SAID_MS, async () => {
      const { status } = await stack.temporal.workflow.getHandle(idOf(made)).describe();
      return status.name === 'RUNNING' ? undefined : true;
    });
    await recordHistory(stack, idOf(made), 'importDataVolume.cancelled.scratch');
  });

  it('goes by the sweeper when the workflow is terminated', async () => {
    const { made } = await transferring('terminated');
    await stack.temporal.workflow.getHandle(idOf(made)).terminate('by an operator');
    await world.awaitPhase(namespace, 'terminated', 'Failed', 60_000);
    await eventually('a sweep that leaves nothing', 90_000, async () => {
      await stack.temporal.schedule.getHandle('dvflow-sweep').trigger();
      const after = await world.inventory();
      return JSON.stringify(after) === JSON.stringify(inventory) ? true : undefined;
    });
  });

  it('waits for a quota on dvflow-transfers, says so within 30 s, and goes on when there is room', async () => {
    const body = { metadata: { name: 'tight' }, spec: { hard: { persistentvolumeclaims: '0' } } };
    await world.core.createNamespacedResourceQuota({ namespace: TRANSFERS, body });
    const server = await serve(await images.as('vmdk.gz'));
    try {
      // a quota counts before it refuses
      await eventually('the quota', SAID_MS, async () => {
        const quota = await world.core.readNamespacedResourceQuota({ namespace: TRANSFERS, name: 'tight' });
        return quota.status?.used ? true : undefined;
      });
      await world.createImport(namespace, 'quota', { url: server.url });
      await said('quota', 'ErrExceededQuota', /exceeded quota: tight/);
    } finally {
      await world.core.deleteNamespacedResourceQuota({ namespace: TRANSFERS, name: 'tight' });
    }
    await world.awaitPhase(namespace, 'quota', 'Succeeded', 90_000);
    await assertOnlyTheDisk('quota');
  });

  it('is refused before anything is allocated where only a pod could mount it, and made after an edit of CDIConfig', async () => {
    const server = await serve(await images.as('vmdk.gz'));
    await configure('ceph');
    await world.createImport(namespace, 'pods-only', { url: server.url });
    const failed = await world.awaitPhase(namespace, 'pods-only', 'Failed', 20_000);
    assert.equal(conditionOf(failed, 'Running')?.reason, 'ScratchSpaceRequired');
    assert.match(
      conditionOf(failed, 'Running')?.message ?? '',
      /StorageClass "ceph".*rbd\.csi\.ceph\.com.*spec\.scratchSpaceStorageClass of CDIConfig config/,
    );
    assert.equal(await world.claim(namespace, 'pods-only'), undefined);
    await world.assertUnchanged(inventory);
    await configure('scratch');
    await world.createImport(namespace, 'edited', { url: server.url });
    await world.awaitPhase(namespace, 'edited', 'Succeeded', 90_000);
    assert.equal(seen.at(-1)?.spec?.storageClassName, 'scratch');
    // a class that does not exist does not match: the next rule
    seen = [];
    await configure('no-such-class');
    await world.createImport(namespace, 'unmatched', { url: server.url });
    await world.awaitPhase(namespace, 'unmatched', 'Succeeded', 90_000);
    assert.equal(seen.at(-1)?.spec?.storageClassName, 'hostpath-provisioner');
    await configure(null);
  });

  it('that finds no room is said within 30 s with both figures, and the deadline counts', async () => {
    const server = await serve(await images.as('vmdk.gz'));
    const { bavail, bsize } = await statfs(stack.info.pool);
    // the target has room, but not its scratch space beside it
    const bytes = Math.floor((bavail * bsize * 0.6) / MiB) * MiB;
    const spec = {
      storage: {
        resources: { requests: { storage: `${bytes}` } },
        storageClassName: 'hostpath-provisioner',
      },
    };
    await world.createImport(namespace, 'no-room', { url: server.url }, spec, {
      'dvflow.io/deadline': '15s',
    });
    await said(
      'no-room',
      'InsufficientCapacity',
      /asks for \d+ bytes and \d+ of scratch space, pool .* has room for \d+/,
    );
    const failed = await world.awaitPhase(namespace, 'no-room', 'Failed', 60_000);
    assert.equal(conditionOf(failed, 'Running')?.reason, 'DeadlineExceeded');
    await world.assertUnchanged(inventory);
  });
});
