/** Section 6.12.1, done as it is printed: statements 1-34, errata E7-E10; SELinux and MachineConfigs have tests of their own. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from '../live/images.js';
import { assertSameDisk, createWorld, eventually, type World } from '../live/world.js';
import { CNV, consumerOf, createCnvNamespace, documented, takeAway } from './documented.js';

/** Of DataVolumes that wait for their consumer, as the class says. */
const AS_THE_CLASS_SAYS = { 'cdi.kubevirt.io/storage.bind.immediate.requested': undefined };

const HPP = 'hostpathprovisioner/hostpath-provisioner';

describe('the hostpath chapter, word for word', function () {
  this.timeout(120_000);
  const stack = useStack();
  const back: (() => Promise<void>)[] = [];
  let world: World;
  let images: Images;
  let server: FileServer;
  let namespace: string;
  let pool: string;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 16, dataMiB: 8 });
    server = await startFileServer({ path: await images.as('qcow2') });
    namespace = await world.createNamespace('hostpath');
    pool = join(dirname(stack.info.pool), 'hpvolumes');
    await createCnvNamespace(stack);
    back.push(await takeAway(stack, 'hostpathprovisioner', 'hostpath-provisioner'));
    back.push(await takeAway(stack, 'storageclass', 'hostpath-provisioner'));
  });
  after(async () => {
    for (const restore of back) await restore();
    await stack.kubectl(['delete', 'storageclass', 'renamed', 'silent', 'keeping', '--ignore-not-found']);
    await stack.kubectl(['delete', '--wait=false', 'namespace', CNV]);
    await server.close();
    await images.remove();
  });

  const create = async (input: string, ...args: string[]): Promise<string> =>
    await stack.kubectl(['create', '-f', '-', ...args], { input });
  const get = async (what: readonly string[], path: string): Promise<string> =>
    await stack.kubectl(['get', ...what, '-o', `jsonpath={${path}}`]);

  it('creates the HostPathProvisioner that names the backing directory, in whatever namespace', async () => {
    assert.ok(!existsSync(pool));
    await create(documented('hostpath-provisioner-v1alpha1', { '/var/hpvolumes': pool }), '-n', CNV);
    for (const version of ['v1alpha1', 'v1beta1']) {
      const kind = `hostpathprovisioners.${version}.hostpathprovisioner.kubevirt.io`;
      const read = async (path: string): Promise<string> => await get([kind, 'hostpath-provisioner'], path);
      assert.equal(await read('.spec.pathConfig.path'), pool);
      assert.equal(await read('.spec.pathConfig.useNamingPrefix'), 'false');
      // E10: the kind has no namespace, so the one of the command is ignored
      assert.equal(await read('.metadata.namespace'), '');
    }
  });

  it('prepares the node for it: the directory is made, and the HostPathProvisioner is Available', async () => {
    await stack.kubectl(['wait', '--for=condition=Available', HPP, '--timeout=60s']);
    assert.equal(await get([HPP], '.status.nodes[0].phase'), 'Ready');
    assert.ok((await stat(pool)).isDirectory());
  });

  it('creates the StorageClass as printed, and under another name', async () => {
    await create(documented('storage-class'));
    await create(documented('storage-class', { 'name: hostpath-provisioner': 'name: renamed' }));
    for (const name of ['hostpath-provisioner', 'renamed']) {
      const read = async (path: string): Promise<string> => await get(['storageclass', name], path);
      assert.equal(await read('.provisioner'), 'kubevirt.io/hostpath-provisioner');
      assert.equal(await read('.volumeBindingMode'), 'WaitForFirstConsumer');
    }
  });

  it('refuses to change the parameters of a class', async () => {
    const patch = JSON.stringify({ parameters: { storagePool: 'local' } });
    await assert.rejects(
      stack.kubectl(['patch', 'storageclass', 'renamed', '--type=merge', '-p', patch]),
      /updates to parameters are forbidden/,
    );
  });

  it('knows the reclaim policies Delete and Retain, and Delete where none is given', async () => {
    const policy = (name: string, line: string): string =>
      documented('storage-class', {
        'name: hostpath-provisioner': `name: ${name}`,
        'reclaimPolicy: Delete\n': line,
      });
    await assert.rejects(
      create(policy('other', 'reclaimPolicy: Recycle\n')),
      /Unsupported value: "Recycle": supported values: "Delete", "Retain"/,
    );
    await create(policy('keeping', 'reclaimPolicy: Retain\n'));
    await create(policy('silent', ''));
    assert.equal(await get(['storageclass', 'keeping'], '.reclaimPolicy'), 'Retain');
    assert.equal(await get(['storageclass', 'silent'], '.reclaimPolicy'), 'Delete');
  });

  it('provisions nothing before a pod uses the claim, then on the node of that pod, in a directory that was not there', async () => {
    const volumes = async (): Promise<number> => (await world.core.listPersistentVolume()).items.length;
    const before = await volumes();
    await world.createImport(namespace, 'disk', { url: server.url }, {}, AS_THE_CLASS_SAYS);
    await world.awaitPhase(namespace, 'disk', 'WaitForFirstConsumer', 20_000);
    assert.equal((await world.claim(namespace, 'disk'))?.status?.phase, 'Pending');
    assert.equal(await volumes(), before);
    assert.deepEqual(allocatedIn(pool), []);

    await world.core.createNamespacedPod({ namespace, body: consumerOf('disk') });
    await world.awaitPhase(namespace, 'disk', 'Succeeded', 60_000);
    const disk = await world.diskOf(namespace, 'disk');
    assert.equal(dirname(dirname(disk)), pool);
    await assertSameDisk(images.raw, 'raw', disk);
    const volume = (await world.claim(namespace, 'disk'))!.spec!.volumeName!;
    const { spec } = await world.core.readPersistentVolume({ name: volume });
    const node = await eventually('the pod has its node', 30_000, async () => {
      const pod = await world.core.readNamespacedPod({ namespace, name: 'consumer' });
      return pod.spec?.nodeName;
    });
    assert.deepEqual(spec?.nodeAffinity?.required?.nodeSelectorTerms[0]?.matchExpressions?.[0]?.values, [
      node,
    ]);
  });

  it('removes disk and volume with the claim', async () => {
    const disk = await world.diskOf(namespace, 'disk');
    const volume = (await world.claim(namespace, 'disk'))!.spec!.volumeName!;
    await world.core.deleteNamespacedPod({ namespace, name: 'consumer', gracePeriodSeconds: 0 });
    await world.remove(namespace, 'disk');
    await eventually('disk and volume are gone', 60_000, async () => {
      const { items } = await world.core.listPersistentVolume();
      const there = items.some(({ metadata }) => metadata?.name === volume);
      return there || existsSync(dirname(disk)) ? undefined : true;
    });
  });
});

/** Directories of volumes; none where there is no pool. */
function allocatedIn(pool: string): readonly string[] {
  return existsSync(pool) ? readdirSync(pool).filter((name) => name.includes('pvc-')) : [];
}
