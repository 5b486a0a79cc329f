import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { V1PersistentVolume } from '@kubernetes/client-node';
import { parseAllDocuments } from 'yaml';
import { cancel, createLocalBlockVolume, deleteLocalBlockVolume, failureOf } from '../../client/index.js';
import { killProcess, restartProcess } from '../../local/index.js';
import { returnWorkflowId } from '../../workflows/task-queues.js';
import { chosen } from '../support/breadth.js';
import { useStack } from '../support/stack.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { makeImages, type Images } from './images.js';
import { recordHistory } from './record.js';
import { assertSameDisk, createWorld, dataVolume, eventually, type DataVolume, type World } from './world.js';

const run = promisify(execFile);
const MiB = 1 << 20;

describe('local volumes', function () {
  this.timeout(240_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let namespace: string;
  let base: string;
  const servers: FileServer[] = [];
  const devices: string[] = [];

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 48, dataMiB: 32 });
    namespace = await world.createNamespace('local-volumes');
    base = await mkdtemp(join(tmpdir(), 'dvflow-local-'));
    await chmod(base, 0o755);
    await stack.kubectl(['apply', '-f', 'deploy/examples/storage-class-local.yaml']);
  });
  afterEach(async () => {
    const { items } = (await world.custom.listNamespacedCustomObject({ ...DATA_VOLUMES, namespace })) as {
      items: DataVolume[];
    };
    for (const { metadata } of items) await world.remove(namespace, metadata.name);
    const made = await world.core.listPersistentVolume({ labelSelector: 'test=local-volumes' });
    for (const { metadata } of made.items) await world.core.deletePersistentVolume({ name: metadata!.name! });
    for (const device of devices.splice(0)) execFileSync('losetup', ['--detach', device]);
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.close()));
    await images.remove();
    await rm(base, { recursive: true, force: true });
  });

  const needsRoot = (test: Mocha.Context): void => {
    if (process.getuid?.() === 0) return;
    test.test!.title += ' (loop devices need root)';
    test.skip();
  };

  async function serve(form: string, bytesPerSecond?: number): Promise<FileServer> {
    const path = await images.as(form);
    const server = await startFileServer({ path, ...(bytesPerSecond ? { bytesPerSecond } : {}) });
    servers.push(server);
    return server;
  }

  /** Documented M6, `dd` and `losetup` with the erratum E2 and a smaller file: a device that is as large as its file. */
  async function documentedDevice(mebibytes = 64): Promise<{ device: string; file: string }> {
    const file = join(base, `loop${Math.random()}`);
    await run('dd', ['if=/dev/zero', `of=${file}`, 'bs=1M', `count=${mebibytes}`]);
    const { stdout } = await run('losetup', ['--find', '--show', file]);
    devices.push(stdout.trim());
    return { device: stdout.trim(), file };
  }

  /** Documented M6's PersistentVolume. */
  async function documentedVolume(name: string, path: string, more: object = {}): Promise<void> {
    const [document] = parseAllDocuments(
      await readFile(new URL('../deploy/documented/local-block-volume.yaml', import.meta.url), 'utf8'),
    );
    const printed = document!.toJS() as V1PersistentVolume;
    const body = {
      ...printed,
      metadata: { name, labels: { test: 'local-volumes', kept: name } },
      spec: {
        ...printed.spec,
        local: { path },
        capacity: { storage: '64Mi' },
        nodeAffinity: {
          required: {
            nodeSelectorTerms: [
              {
                matchExpressions: [
                  { key: 'kubernetes.io/hostname', operator: 'In', values: [stack.info.node] },
                ],
              },
            ],
          },
        },
        ...more,
      },
    };
    await world.core.createPersistentVolume({ body });
  }

  /** Documented M7 with erratum E5 (mode and class) and a source that this release reads. */
  const block = (more: object = {}) => ({
    storage: undefined,
    pvc: {
      storageClassName: 'local',
      volumeMode: 'Block',
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: '64Mi' } },
      ...more,
    },
  });

  const idOf = ({ metadata: { namespace: space, name, uid } }: DataVolume) =>
    `datavolume/${space}/${name}/${uid}`;
  const volumeOf = async (name: string) => await world.core.readPersistentVolume({ name });
  const awaitVolume = async (name: string, phase: string) =>
    await eventually(`volume ${name} ${phase}`, 60_000, async () => {
      const found = await volumeOf(name);
      return found.status?.phase === phase ? found : undefined;
    });
  const running = async (name: string) =>
    (await world.read(namespace, name))?.status?.conditions?.find(({ type }) => type === 'Running');

  for (const form of chosen(['qcow2', 'raw', 'raw.gz', 'qcow2.xz'], (one) => !one.includes('.'))) {
    it(`imports ${form} into the block volume of the documentation (M6, M7)`, async function () {
      needsRoot(this);
      const { device } = await documentedDevice();
      const name = `documented-${form.replace('.', '-')}`;
      await documentedVolume(name, device);
      const server = await serve(form);
      const body = {
        ...dataVolume(namespace, name, { url: server.url }, block()),
        apiVersion: 'cdi.kubevirt.io/v1alpha1',
      };
      const made = (await world.custom.createNamespacedCustomObject({
        ...DATA_VOLUMES,
        version: 'v1alpha1',
        namespace,
        body,
      })) as DataVolume;
      await world.awaitPhase(namespace, name, 'Succeeded');
      await assertSameDisk(images.raw, 'raw', device);
      const claim = await world.claim(namespace, name);
      assert.deepEqual([claim?.spec?.volumeName, claim?.spec?.volumeMode], [name, 'Block']);
      assert.equal((await volumeOf(name)).spec?.persistentVolumeReclaimPolicy, 'Delete');
      assert.match(
        await stack.kubectl(['get', 'dvs', '-n', namespace]),
        new RegExp(`${name} +Succeeded +100.0%`),
      );
      if (form === 'qcow2') await recordHistory(stack, idOf(made), 'importDataVolume.succeeded.block');
    });
  }

  it('refuses the 2000 MiB for 2Gi of the documentation (E2), with both figures, and gives the volume back', async function () {
    needsRoot(this);
    const { device } = await documentedDevice(63);
    await documentedVolume('too-small', device);
    const server = await serve('qcow2');
    const made = await world.createImport(namespace, 'too-small', { url: server.url }, block());
    await world.awaitPhase(namespace, 'too-small', 'Failed');
    const { reason, message } = (await running('too-small'))!;
    assert.equal(reason, 'VolumeTooSmall');
    assert.match(message, /has 66060288 bytes, PersistentVolume too-small says 67108864/);
    const { spec } = await awaitVolume('too-small', 'Available');
    assert.deepEqual([spec?.claimRef, spec?.persistentVolumeReclaimPolicy], [undefined, 'Delete']);
    await recordHistory(stack, idOf(made), 'importDataVolume.failed.too-small');
  });

  it('makes a block volume in one workflow, fills it, and finds it under the same path after losetup -d and a restart', async function () {
    needsRoot(this);
    const { node } = stack.info;
    const input = { name: 'made', node, size: '64Mi', labels: { disk: 'vm1' } };
    const first = await createLocalBlockVolume(stack.temporal, input);
    const result = await first.result();
    assert.deepEqual(
      [result.volume, result.node, result.bytes, result.directIo],
      ['made', node, 64 * MiB, true],
    );
    await recordHistory(stack, first.workflowId, 'localBlockVolume.succeeded');
    assert.deepEqual(await (await createLocalBlockVolume(stack.temporal, input)).result(), result);
    const other = await createLocalBlockVolume(stack.temporal, { ...input, size: '65Mi' });
    await assert.rejects(other.result(), says(/exists and is another one/));
    assert.equal((await volumeOf('made')).spec?.capacity?.['storage'], '64Mi');

    const server = await serve('qcow2');
    await world.createImport(
      namespace,
      'vm1',
      { url: server.url },
      block({ selector: { matchLabels: { disk: 'vm1' } } }),
    );
    await world.awaitPhase(namespace, 'vm1', 'Succeeded');
    await assertSameDisk(images.raw, 'raw', result.path);

    const refused = await deleteLocalBlockVolume(stack.temporal, { name: 'made' });
    await assert.rejects(refused.result(), says(/is Bound to claim .*vm1: delete the claim first/));

    // what a reboot does to loop devices
    execFileSync('losetup', ['--detach', await readlink(result.path)]);
    assert.ok(!(await run('losetup', ['--list'])).stdout.includes(stack.info.pool), 'the device is gone');
    await restartProcess(stack.info, 'worker-node');
    await assertSameDisk(images.raw, 'raw', result.path);

    await world.remove(namespace, 'vm1');
    await awaitVolume('made', 'Released');
    const removed = await deleteLocalBlockVolume(stack.temporal, { name: 'made' });
    assert.deepEqual(await removed.result(), { deleted: true });
    await recordHistory(stack, removed.workflowId, 'deleteLocalBlockVolume.succeeded');
    assert.deepEqual(await (await deleteLocalBlockVolume(stack.temporal, { name: 'made' })).result(), {
      deleted: false,
    });
    assert.ok(!(await run('losetup', ['--list'])).stdout.includes(stack.info.pool), 'the device is detached');
  });

  it('refuses a block volume without room, with both figures, and leaves nothing', async function () {
    needsRoot(this);
    const inventory = await world.inventory();
    const made = await createLocalBlockVolume(stack.temporal, {
      name: 'vast',
      node: stack.info.node,
      size: '4Pi',
    });
    await assert.rejects(made.result(), says(/has room for \d+ bytes, volume vast needs 4503599627370496/));
    await recordHistory(stack, made.workflowId, 'localBlockVolume.failed');
    await world.assertUnchanged(inventory);
  });

  it('gives one volume to one of two imports; the other says what it waits for, and takes the next', async function () {
    needsRoot(this);
    const { device } = await documentedDevice();
    await documentedVolume('only', device);
    const server = await serve('raw');
    const names = ['one', 'two'];
    const made = await Promise.all(
      names.map((name) => world.createImport(namespace, name, { url: server.url }, block())),
    );
    const winner = await eventually('one succeeds', 60_000, async () => {
      for (const name of names)
        if ((await world.read(namespace, name))?.status?.phase === 'Succeeded') return name;
      return undefined;
    });
    const loser = names.find((name) => name !== winner)!;
    await eventually('the other says why', 30_000, async () => {
      const found = await running(loser);
      return found?.reason === 'FailedBinding' &&
        /only is (Bound|Available) and has claimRef/.test(found.message)
        ? true
        : undefined;
    });
    assert.equal(await world.claim(namespace, loser), undefined, 'no claim before its volume');
    const next = await documentedDevice();
    await documentedVolume('next', next.device);
    await world.awaitPhase(namespace, loser, 'Succeeded', 60_000);
    await assertSameDisk(images.raw, 'raw', next.device);
    await recordHistory(stack, idOf(made[names.indexOf(loser)]!), 'importDataVolume.succeeded.after-volume');
  });

  it('fills a directory that is selected by label, without a class, as in M12', async () => {
    const path = join(base, 'directory');
    await mkdir(path);
    await documentedVolume('directory', path, { volumeMode: 'Filesystem', capacity: { storage: '128Mi' } });
    const server = await serve('qcow2');
    const pvc = {
      accessModes: ['ReadWriteOnce'],
      selector: { matchLabels: { kept: 'directory' } },
      resources: { requests: { storage: '64Mi' } },
    };
    await world.createImport(namespace, 'vm2', { url: server.url }, { storage: undefined, pvc });
    await world.awaitPhase(namespace, 'vm2', 'Succeeded');
    await assertSameDisk(images.raw, 'raw', join(path, 'disk.img'));
    const claim = await world.claim(namespace, 'vm2');
    assert.deepEqual([claim?.spec?.storageClassName, claim?.spec?.volumeName], ['local', 'directory']);
  });

  it('takes a directory that is kept for its claim as it is, where checkStaticVolume asks for that', async () => {
    const path = join(base, 'comes-back');
    await mkdir(path);
    const disk = Buffer.alloc(MiB, 'what was there');
    await writeFile(join(path, 'disk.img'), disk);
    const kept = {
      volumeMode: 'Filesystem',
      capacity: { storage: '128Mi' },
      persistentVolumeReclaimPolicy: 'Delete',
      claimRef: { namespace, name: 'kept' },
    };
    await documentedVolume('comes-back', path, kept);
    const server = await serve('qcow2');
    const pvc = {
      accessModes: ['ReadWriteOnce'],
      volumeName: 'comes-back',
      storageClassName: 'local',
      resources: { requests: { storage: '64Mi' } },
    };
    const asIs = { 'cdi.kubevirt.io/storage.checkStaticVolume': '' };
    const made = await world.createImport(
      namespace,
      'kept',
      { url: server.url },
      { storage: undefined, pvc },
      asIs,
    );
    const found = await world.awaitPhase(namespace, 'kept', 'Succeeded', 60_000);
    assert.equal(server.requests().length, 0);
    assert.ok((await readFile(join(path, 'disk.img'))).equals(disk), 'the disk was written to');
    const told = found.status?.conditions?.map(({ type, status }) => `${type} ${status}`).sort();
    assert.deepEqual(told, ['Bound True', 'Ready True', 'Running False']);
    const claim = await world.claim(namespace, 'kept');
    assert.equal(claim?.spec?.volumeName, 'comes-back');
    assert.equal(claim?.metadata?.ownerReferences?.[0]?.uid, made.metadata.uid);
  });

  async function halfWay(name: string): Promise<{ made: DataVolume; server: FileServer; file: string }> {
    const { device, file } = await documentedDevice();
    execFileSync('sh', [
      '-c',
      `tr '\\0' '\\252' < /dev/zero | dd of=${device} bs=1M count=64 iflag=fullblock oflag=direct 2>&1`,
    ]);
    await documentedVolume(name, device);
    const server = await serve('raw', 4 * MiB);
    const made = await world.createImport(namespace, name, { url: server.url }, block());
    await eventually('bytes', 60_000, async () => (server.bytesSent() > 12 * MiB ? true : undefined));
    assert.notEqual((await world.claim(namespace, name))?.status?.phase, 'Bound');
    return { made, server, file };
  }

  async function assertGivenBack(name: string, file: string): Promise<void> {
    const { spec, metadata } = await awaitVolume(name, 'Available');
    assert.deepEqual([spec?.claimRef, spec?.persistentVolumeReclaimPolicy], [undefined, 'Delete']);
    assert.deepEqual(metadata?.labels, { test: 'local-volumes', kept: name });
    execFileSync('blockdev', ['--flushbufs', devices.at(-1)!]);
    assert.ok(
      (await readFile(file)).every((byte) => byte === 0),
      'what was there shines through',
    );
  }

  it('cancelled while bytes move: the volume is Available again, and reads as zeros', async function () {
    needsRoot(this);
    const { made, file } = await halfWay('cancelled');
    await cancel(stack.temporal, { namespace, name: 'cancelled' });
    await world.awaitPhase(namespace, 'cancelled', 'Failed', 60_000);
    await eventually('the run ends', 60_000, async () => {
      const { status } = await stack.temporal.workflow.getHandle(idOf(made)).describe();
      return status.name === 'RUNNING' ? undefined : true;
    });
    await assertGivenBack('cancelled', file);
    assert.equal(await world.claim(namespace, 'cancelled'), undefined);
    await recordHistory(stack, idOf(made), 'importDataVolume.cancelled.block');
  });

  it('terminated while bytes move: the next sweeps empty the volume and give it back', async function () {
    needsRoot(this);
    const { made, server, file } = await halfWay('terminated');
    await stack.temporal.workflow.getHandle(idOf(made)).terminate('an operator');
    server.setRate(undefined);
    await world.awaitPhase(namespace, 'terminated', 'Failed', 60_000);
    let last = '';
    await eventually('a sweep gives the volume back', 90_000, async () => {
      const sweep = await stack.temporal.workflow.start('sweep', {
        taskQueue: 'dvflow',
        workflowId: `sweep-${Date.now()}`,
        args: [{}],
      });
      const { removed } = (await sweep.result()) as { removed: readonly string[] };
      if (removed.some((item) => item.startsWith('PersistentVolume '))) last = sweep.workflowId;
      return (await volumeOf('terminated')).spec?.claimRef ? undefined : true;
    });
    await assertGivenBack('terminated', file);
    // `sweep.succeeded.volume` is of before volumes were given back by runs of their own
    await recordHistory(stack, last, 'sweep.succeeded.volume-apart');
    await recordHistory(stack, returnWorkflowId(made.metadata.uid), 'returnReservedVolume.succeeded');
  });

  it('goes on after kill -9 of the node worker, and the disk is right', async function () {
    needsRoot(this);
    const { server, file } = await halfWay('killed');
    server.setRate(undefined);
    killProcess(stack.info, 'worker-node', 'SIGKILL');
    await restartProcess(stack.info, 'worker-node');
    await world.awaitPhase(namespace, 'killed', 'Succeeded', 120_000);
    execFileSync('blockdev', ['--flushbufs', devices.at(-1)!]);
    await assertSameDisk(images.raw, 'raw', devices.at(-1)!);
    assert.ok(
      (await readFile(file)).subarray(48 * MiB).every((byte) => byte === 0),
      'old data shines through',
    );
  });
});

/** For `assert.rejects`: a run that failed and says this. */
function says(message: RegExp): (error: unknown) => true {
  return (error) => {
    assert.match(failureOf(error).message, message);
    return true;
  };
}

const DATA_VOLUMES = { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'datavolumes' } as const;
