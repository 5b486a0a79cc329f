/** DataVolumes that name their source by a DataSource: waited for, resolved, woken. */
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { consumerOf } from '../documentation/documented.js';
import { useStack } from '../support/stack.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { makeImages, type Images } from './images.js';
import { assertSameDisk, createWorld, eventually, type World } from './world.js';

const STORAGE = { storageClassName: 'hostpath-provisioner' };

describe('a clone of what a DataSource names', function () {
  this.timeout(120_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let server: FileServer;
  let namespace = '';

  before('a disk', async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 16, dataMiB: 8 });
    server = await startFileServer({ path: await images.as('qcow2') });
    namespace = await world.createNamespace('sources');
    await world.createImport(namespace, 'disk', { url: server.url });
    await world.awaitPhase(namespace, 'disk', 'Succeeded');
  });
  after(async () => {
    await world.core.deleteNamespace({ name: namespace });
    await server.close();
    await images.remove();
  });

  async function put(name: string, source: object, verb: 'create' | 'replace' = 'create'): Promise<void> {
    const dataSource = {
      apiVersion: 'cdi.kubevirt.io/v1beta1',
      kind: 'DataSource',
      metadata: { name, namespace },
      spec: { source },
    };
    await stack.kubectl([verb, '-f', '-'], { input: JSON.stringify(dataSource) });
  }

  async function clone(name: string, dataSource: string): Promise<void> {
    const spec = {
      source: undefined,
      sourceRef: { kind: 'DataSource', name: dataSource },
      storage: STORAGE,
    };
    await world.createImport(namespace, name, {}, spec);
  }

  /** Waits until condition `Running` of a DataVolume gives this reason. */
  async function waitsFor(name: string, reason: string, message: RegExp): Promise<void> {
    const condition = await eventually(`${name} waits: ${reason}`, 30_000, async () => {
      const { conditions = [] } = (await world.read(namespace, name))?.status ?? {};
      return conditions.find(({ type, reason: told }) => type === 'Running' && told === reason);
    });
    assert.match(condition.message, message);
  }

  /** The disk is there, long before a run would have looked again by itself. */
  async function succeeds(name: string): Promise<void> {
    await world.awaitPhase(namespace, name, 'Succeeded', 30_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, name));
  }

  const disk = (): object => ({ pvc: { namespace, name: 'disk' } });

  it('takes its size from the source, and leaves the DataSource Ready', async () => {
    await put('ready', disk());
    await clone('from-ready', 'ready');
    await succeeds('from-ready');
    const status = '{.status.conditions[0].reason} {.status.source.pvc.name}';
    assert.equal(
      await stack.kubectl(['get', 'das', 'ready', '-n', namespace, '-o', `jsonpath=${status}`]),
      'Ready disk',
    );
  });

  describe('where nothing is to be cloned yet', () => {
    // all of them at once: the pauses between two looks have become long when the first of them begins
    before('clones that wait', async function () {
      this.timeout(180_000);
      await put('alias', { dataSource: { namespace, name: 'today' } });
      await put('ping', { dataSource: { namespace, name: 'pong' } });
      await put('pong', { dataSource: { namespace, name: 'ping' } });
      await put('early', { pvc: { namespace, name: 'not-yet' } });
      await clone('from-later', 'later');
      await clone('from-alias', 'alias');
      await clone('from-loop', 'ping');
      await clone('from-early', 'early');
      const loop = /maximum depth of 1: .*\/ping, .*\/pong, .*\/ping$/;
      await Promise.all([
        waitsFor('from-later', 'NotFound', /^DataSource .*\/later not found$/),
        waitsFor('from-alias', 'NotFound', /^DataSource .*\/today not found$/),
        waitsFor('from-loop', 'MaxReferenceDepthReached', loop),
        waitsFor('from-early', 'CloneWithoutSource', /not-yet/),
      ]);
      await pause(12_000);
    });

    it('waits for a DataSource that does not exist, and begins when it appears', async () => {
      await put('later', disk());
      await succeeds('from-later');
    });

    it('waits for one that another one names, and begins when that appears', async () => {
      await put('today', disk());
      await succeeds('from-alias');
    });

    it('says of a loop that it is one, and begins when somebody has opened it', async () => {
      await put('pong', disk(), 'replace');
      await succeeds('from-loop');
    });

    it('waits for the claim that a DataSource names, and begins when it is filled', async () => {
      await world.createImport(namespace, 'not-yet', { url: server.url });
      await succeeds('from-early');
    });
  });

  it('clones what was named when it began, whatever the DataSource names when its first consumer comes', async () => {
    await put('moving', disk());
    const spec = { source: undefined, sourceRef: { kind: 'DataSource', name: 'moving' }, storage: STORAGE };
    const immediate = 'cdi.kubevirt.io/storage.bind.immediate.requested';
    await world.createImport(namespace, 'consumed', {}, spec, { [immediate]: undefined });
    await world.awaitPhase(namespace, 'consumed', 'WaitForFirstConsumer', 30_000);
    await put('moving', { pvc: { namespace, name: 'tomorrow' } }, 'replace');
    await world.core.createNamespacedPod({ namespace, body: consumerOf('consumed') });
    await succeeds('consumed');
  });

  it('believes what DataSources are to name, not what their status says', async () => {
    await put('forged', { dataSource: { namespace, name: 'nowhere' } });
    const status = { status: { source: disk() } };
    await stack.kubectl([
      'patch',
      'das',
      'forged',
      '-n',
      namespace,
      '--type=merge',
      '-p',
      JSON.stringify(status),
    ]);
    await clone('from-forged', 'forged');
    await waitsFor('from-forged', 'NotFound', /^DataSource .*\/nowhere not found$/);
    await world.remove(namespace, 'from-forged');
  });
});
