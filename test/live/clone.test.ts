import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { itIf } from '../support/breadth.js';
import { useStack } from '../support/stack.js';
import { createClones, type Clones } from './clone-scene.js';
import { makeImages, type Images } from './images.js';
import { recordHistory } from './record.js';
import { assertSameDisk, createWorld, sha256, type World } from './world.js';

const MiB = 1 << 20;

describe('a clone, end to end', function () {
  this.timeout(240_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let namespace: string;
  const servers: FileServer[] = [];
  let clones: Clones;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 48, dataMiB: 16 });
    namespace = await world.createNamespace('clone');
    clones = createClones(stack, world, namespace);
    await importImage('golden');
    await world.awaitPhase(namespace, 'golden', 'Succeeded');
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.close()));
    await images.remove();
  });

  async function importImage(name: string, bytesPerSecond?: number): Promise<FileServer> {
    const path = await images.as('raw');
    const server = await startFileServer({ path, ...(bytesPerSecond ? { bytesPerSecond } : {}) });
    servers.push(server);
    await world.createImport(namespace, name, { url: server.url });
    return server;
  }

  const failed = async (name: string): Promise<string> => {
    const found = await world.awaitPhase(namespace, name, 'Failed');
    const running = found.status?.conditions?.find(({ type }) => type === 'Running');
    return `${running?.reason}: ${running?.message}`;
  };

  it('copies a disk into a claim of its size, sparse, in phases and words of CDI, and touches the source in nothing', async () => {
    const source = await world.diskOf(namespace, 'golden');
    const before = await stat(source, { bigint: true });
    const made = await clones.clone('copy', 'golden');
    const done = await world.awaitPhase(namespace, 'copy', 'Succeeded');
    // the phase is written before its event
    const result = (await stack.temporal.workflow.getHandle(clones.idOf(made)).result()) as Record<
      string,
      unknown
    >;
    const disk = await world.diskOf(namespace, 'copy');
    const after = await stat(source, { bigint: true });
    assert.deepEqual(
      [after.mtimeNs, after.ctimeNs, after.atimeNs],
      [before.mtimeNs, before.ctimeNs, before.atimeNs],
    );
    await assertSameDisk(images.raw, 'raw', disk);
    assert.equal((await stat(disk)).size, Number(after.size));
    assert.ok((await stat(disk)).blocks <= Number(after.blocks) + 64);
    assert.equal(done.status?.progress, '100.0%');
    const running = done.status?.conditions?.find(({ type }) => type === 'Running');
    assert.deepEqual([running?.reason, running?.message], ['Completed', 'Clone Complete']);
    const events = await world.events(namespace, 'copy');
    const said = (reason: string): string | undefined =>
      events.find((event) => event.reason === reason)?.message;
    const cloning = `Cloning from ${namespace}/golden into ${namespace}/copy`;
    assert.equal(said('CloneScheduled'), `${cloning} scheduled`);
    assert.equal(said('CloneInProgress'), `${cloning} in progress`);
    assert.equal(
      said('CloneSucceeded'),
      `Successfully cloned from ${namespace}/golden into ${namespace}/copy`,
    );
    const claim = await world.claim(namespace, 'copy');
    const { annotations = {} } = claim?.metadata ?? {};
    assert.equal(annotations['cdi.kubevirt.io/cloneType'], 'copy');
    assert.match(annotations['cdi.kubevirt.io/cloneFallbackReason'] ?? '', /^NoReflink: /);
    assert.match(said('NoReflink') ?? '', /^sparse copy by extents on node /);
    assert.equal(annotations['k8s.io/CloneOf'], 'true');
    assert.equal(
      (await world.read(namespace, 'copy'))?.metadata.annotations?.['cdi.kubevirt.io/cloneType'],
      'copy',
    );
    assert.deepEqual(result.source, { namespace, name: 'golden' });
    assert.equal(result.method, 'copy');
    await recordHistory(stack, clones.idOf(made), 'cloneDataVolume.succeeded');
  });

  it('grows the disk to a larger claim, and lets the original go its own way', async () => {
    await clones.clone('larger', 'golden', { size: '100Mi' });
    await world.awaitPhase(namespace, 'larger', 'Succeeded');
    const disk = await world.diskOf(namespace, 'larger');
    assert.equal((await stat(disk)).size, 100 * MiB);
    await assertSameDisk(images.raw, 'raw', disk);
  });

  it('waits for a source that does not exist, says so, and starts when it appears', async () => {
    const made = await clones.clone('early', 'late', { annotations: { 'dvflow.io/deadline': '10s' } });
    await clones.awaitReason(
      'early',
      'CloneWithoutSource',
      /^The source PersistentVolumeClaim \S+\/late doesn't exist$/,
    );
    // longer than its deadline, which stands still
    await new Promise((resolve) => setTimeout(resolve, 12_000));
    await importImage('late', 8 * MiB);
    await clones.awaitReason(
      'early',
      'ImportPVCNotReady',
      /late is (not fully imported: DataVolume|Pending, not Bound)/,
    );
    await world.awaitPhase(namespace, 'early', 'Succeeded');
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'early'));
    await recordHistory(stack, clones.idOf(made), 'cloneDataVolume.succeeded.after-source');
  });

  it('waits while a pod may write to the source, names it, and goes on when it is gone', async () => {
    await clones.use('vm', 'golden');
    const made = await clones.clone('patient', 'golden');
    await clones.awaitReason(
      'patient',
      'CloneSourceInUse',
      /^pod \S+\/vm using PersistentVolumeClaim golden$/,
    );
    await world.awaitEvent(namespace, 'patient', { type: /^Warning$/, reason: 'CloneSourceInUse' });
    const since = Date.now();
    await clones.unuse('vm');
    await world.awaitPhase(namespace, 'patient', 'Succeeded');
    assert.ok(Date.now() - since < 20_000, `${Date.now() - since} ms`);
    await recordHistory(stack, clones.idOf(made), 'cloneDataVolume.succeeded.after-use');
  });

  it('has its whole deadline from when its source is complete and in use, however long it waited for it before', async () => {
    const annotations = { 'dvflow.io/deadline': '10s' };
    const made = await clones.clone('after-both', 'worked-on', { annotations });
    await clones.awaitReason('after-both', 'CloneWithoutSource', /worked-on/);
    await new Promise((resolve) => setTimeout(resolve, 11_000));
    await importImage('worked-on');
    await clones.use('worker', 'worked-on');
    await clones.awaitReason('after-both', 'CloneSourceInUse', /worker using/);
    await clones.unuse('worker');
    await world.awaitPhase(namespace, 'after-both', 'Succeeded');
    await recordHistory(stack, clones.idOf(made), 'cloneDataVolume.succeeded.stood-still');
  });

  it('does not wait for a pod that only reads, and gives up waiting at the deadline', async () => {
    await clones.use('reader', 'golden', true);
    await clones.clone('beside-reader', 'golden');
    await world.awaitPhase(namespace, 'beside-reader', 'Succeeded');
    await clones.unuse('reader');
    await clones.use('writer', 'golden');
    const made = await clones.clone('impatient', 'golden', { annotations: { 'dvflow.io/deadline': '10s' } });
    assert.match(
      await failed('impatient'),
      /^DeadlineExceeded: .*pod \S+\/writer using PersistentVolumeClaim golden/,
    );
    await clones.unuse('writer');
    await recordHistory(stack, clones.idOf(made), 'cloneDataVolume.failed.deadline');
  });

  it('refuses a smaller claim with both figures, unless the user allows it and the disk fits', async () => {
    const pvc = (storage: string) => ({
      storage: undefined,
      pvc: {
        accessModes: ['ReadWriteOnce'],
        storageClassName: 'hostpath-provisioner',
        resources: { requests: { storage } },
      },
    });
    const small = { spec: pvc('40Mi') };
    const made = await clones.clone('small', 'golden', small);
    assert.match(
      await failed('small'),
      /^LargerPVCRequired: target resources requests storage size is smaller than the source: .* asks for \d+ bytes, .* for \d+/,
    );
    assert.equal(await world.claim(namespace, 'small'), undefined);
    await recordHistory(stack, clones.idOf(made), 'cloneDataVolume.failed');
    const annotations = { 'cdi.kubevirt.io/permissiveClone': 'true' };
    await clones.clone('smaller', 'golden', { ...small, annotations });
    assert.match(
      await failed('smaller'),
      /^LargerPVCRequired: the disk of claim \S+\/golden needs 67108864 bytes, .* offers \d+/,
    );
    await clones.makeSource('loose', 16);
    await clones.clone('exact', 'loose', { size: '16Mi', annotations });
    await world.awaitPhase(namespace, 'exact', 'Succeeded');
  });

  it('judges a size of spec.storage by the disk, since its class adds to it', async () => {
    await clones.clone('too-small', 'golden', { size: '40Mi' });
    assert.match(
      await failed('too-small'),
      /^LargerPVCRequired: the disk of claim \S+\/golden needs 67108864 bytes, .* offers 41943040/,
    );
    await clones.makeSource('roomy', 16);
    await clones.clone('fitting', 'roomy', { size: '16Mi' });
    await world.awaitPhase(namespace, 'fitting', 'Succeeded');
  });

  it('refuses a snapshot, and another content type than the source has, by name', async () => {
    await clones.create('of-snapshot', { source: { snapshot: { namespace, name: 'snap' } }, storage: {} });
    assert.match(
      await failed('of-snapshot'),
      /^UnsupportedSource: VolumeSnapshot \S+\/snap cannot be cloned/,
    );
    await clones.clone('as-archive', 'golden', { spec: { contentType: 'archive' } });
    assert.match(
      await failed('as-archive'),
      /^ContentTypeNotSupported: Source contentType \(kubevirt\) and target contentType \(archive\) do not match/,
    );
  });

  it('follows a DataSource to the claim', async () => {
    await world.custom.createNamespacedCustomObject({
      group: 'cdi.kubevirt.io',
      version: 'v1beta1',
      plural: 'datasources',
      namespace,
      body: {
        apiVersion: 'cdi.kubevirt.io/v1beta1',
        kind: 'DataSource',
        metadata: { name: 'os' },
        spec: { source: { pvc: { namespace, name: 'golden' } } },
      },
    });
    await clones.create('by-reference', {
      sourceRef: { kind: 'DataSource', name: 'os' },
      storage: { storageClassName: 'hostpath-provisioner' },
    });
    await world.awaitPhase(namespace, 'by-reference', 'Succeeded');
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'by-reference'));
  });

  itIf(false)('makes many clones of one source at once', async () => {
    const names = Array.from({ length: 8 }, (_, index) => `one-of-many-${index}`);
    await Promise.all(names.map(async (name) => await clones.clone(name, 'golden')));
    for (const name of names) await world.awaitPhase(namespace, name, 'Succeeded', 180_000);
    const expected = await sha256(await world.diskOf(namespace, 'golden'));
    for (const name of names) assert.equal(await sha256(await world.diskOf(namespace, name)), expected);
  });

  it('clones the files of an archive', async () => {
    execFileSync('sh', [
      '-c',
      `cd ${images.directory} && mkdir -p tree/sub && echo hello > tree/sub/file && tar cf tree.tar -C tree .`,
    ]);
    const server = await startFileServer({ path: `${images.directory}/tree.tar` });
    servers.push(server);
    const archive = { contentType: 'archive' };
    await world.createImport(namespace, 'files', { url: server.url }, archive);
    await world.awaitPhase(namespace, 'files', 'Succeeded');
    const made = await clones.clone('files-copy', 'files', { spec: archive });
    await world.awaitPhase(namespace, 'files-copy', 'Succeeded');
    const directory = (await world.diskOf(namespace, 'files-copy')).replace(/\/disk\.img$/, '');
    assert.equal(await sha256(`${directory}/sub/file`), await sha256(`${images.directory}/tree/sub/file`));
    await recordHistory(stack, clones.idOf(made), 'cloneDataVolume.succeeded.network');
  });

  it('takes over a claim that is there already', async () => {
    const claim = {
      metadata: { name: 'ready', annotations: { 'cdi.kubevirt.io/storage.populatedFor': 'ready' } },
    };
    await world.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        ...claim,
        spec: {
          accessModes: ['ReadWriteOnce'],
          storageClassName: 'hostpath-provisioner',
          resources: { requests: { storage: '10Mi' } },
        },
      },
    });
    const made = await clones.clone('ready', 'never-made');
    await world.awaitPhase(namespace, 'ready', 'Succeeded');
    await recordHistory(stack, clones.idOf(made), 'cloneDataVolume.succeeded.adopted');
  });
});
