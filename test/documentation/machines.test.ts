/**
 * Chapter 2.20: virtual machines that bring their disks along, one cloned from a favourite machine's (M16a) and one imported
 * (M16b). Statements 142-155, and of 6.12.4 the rights of M17: 82.
 */
import assert from 'node:assert/strict';
import { parse } from 'yaml';
import { readDocument } from '../docs/documents.js';
import { makeImages, type Images } from '../live/images.js';
import { useMachines, type MachinesScene } from '../live/machines-scene.js';
import { assertSameDisk, createWorld, eventually, type World } from '../live/world.js';
import type { VirtualMachine } from '../support/kubevirt/rules.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { useStack } from '../support/stack.js';
import { documented } from './documented.js';

/** A manifest of `machines/` as printed, but for what a reader is told to fill in. */
function machine(name: string, values: Readonly<Record<string, string>>): string {
  return Object.entries(values).reduce(
    (text, [placeholder, value]) => {
      assert.ok(text.includes(placeholder), `${name}.yaml has no ${placeholder}`);
      return text.replaceAll(placeholder, value);
    },
    readDocument(`test/documentation/machines/${name}.yaml`),
  );
}

describe('a documented virtual machine', function () {
  this.timeout(180_000);
  const stack = useStack();
  const machines = useMachines(stack);
  let scene: MachinesScene;
  let world: World;
  let images: Images;
  let server: FileServer;
  let favourites: string;

  before('a favourite machine, powered down, with its disk', async () => {
    scene = machines();
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 32, dataMiB: 24 });
    server = await startFileServer({ path: await images.as('qcow2') });
    favourites = await world.createNamespace('favourites');
    await world.createImport(favourites, 'my-favorite-vm-disk', { url: server.url });
    await world.awaitPhase(favourites, 'my-favorite-vm-disk', 'Succeeded');
    const volumes = [{ name: 'root', dataVolume: { name: 'my-favorite-vm-disk' } }];
    const spec = { running: false, template: { spec: { domain: { devices: {} }, volumes } } };
    const favourite = {
      apiVersion: 'kubevirt.io/v1',
      kind: 'VirtualMachine',
      metadata: { name: 'my-favorite-vm' },
      spec,
    };
    await stack.kubectl(['create', '-n', favourites, '-f', '-'], { input: JSON.stringify(favourite) });
  });
  after(async () => {
    await stack.kubectl(['delete', 'clusterrole', 'datavolume-cloner', '--ignore-not-found']);
    await world.core.deleteNamespace({ name: favourites });
    await server.close();
    await images.remove();
  });

  const create = async (manifest: string): Promise<string> =>
    await stack.kubectl(['create', '-n', scene.namespace, '-f', '-'], { input: manifest });

  const start = async (name: string): Promise<string> =>
    await stack.kubectl([
      'patch',
      'vm',
      name,
      '-n',
      scene.namespace,
      '--type=merge',
      '-p',
      '{"spec":{"running":true}}',
    ]);

  /** Starts a machine whose disk waits for that, and compares the disk that its pod gets. */
  async function startsOnCompleteDisk(name: string, disk: string): Promise<void> {
    await start(name);
    await scene.said(name, 'starts', 120_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(scene.namespace, disk));
    const launcher = `virt-launcher-${name}`;
    await eventually('its pod', 60_000, async () => scene.pods.find((pod) => pod.name === launcher));
  }

  /** The favourite is running: its pod uses the disk. */
  async function useDisk(claimName: string): Promise<string> {
    const name = 'virt-launcher-my-favorite-vm';
    const spec = {
      containers: [{ name: 'compute', image: 'none' }],
      volumes: [{ name: 'root', persistentVolumeClaim: { claimName } }],
    };
    await world.core.createNamespacedPod({ namespace: favourites, body: { metadata: { name }, spec } });
    return name;
  }

  async function goesWithItsDisk(name: string, disk: string): Promise<void> {
    await stack.kubectl(['delete', 'vm', name, '-n', scene.namespace]);
    for (const look of [world.read, world.claim])
      await eventually(`${disk} goes with ${name}`, 60_000, async () =>
        (await look(scene.namespace, disk)) ? undefined : true,
      );
  }

  it('of 2.20.3 imports its disk, is made stopped, and takes the disk along when it is deleted', async () => {
    await create(machine('import', { "url: ''": `url: '${server.url}'` }));
    await world.awaitPhase(scene.namespace, 'example-dv', 'WaitForFirstConsumer');
    await scene.said('example-vm', 'may start');
    await startsOnCompleteDisk('example-vm', 'example-dv');
    await goesWithItsDisk('example-vm', 'example-dv');
  });

  it('of 2.20.2 names the disk that its favourite shows to who looks at it', async () => {
    const volume = '{.items[0].metadata.namespace} {.items[0].spec.template.spec.volumes[0].dataVolume.name}';
    const found = await stack.kubectl(['get', 'vm', '-n', favourites, '-o', `jsonpath=${volume}`]);
    assert.equal(found, `${favourites} my-favorite-vm-disk`);
    const { spec } = parse(machine('clone', { 'source-namespace': favourites })) as VirtualMachine;
    const [template] = spec.dataVolumeTemplates ?? [];
    assert.deepEqual(template?.spec.source?.pvc, { namespace: favourites, name: 'my-favorite-vm-disk' });
  });

  it('of 2.20.2 is not given the disk of another namespace without the rights of M17', async () => {
    await create(machine('clone', { 'source-namespace': favourites }));
    await scene.said('vm-dv-clone', 'UnauthorizedDataVolumeCreate');
    assert.equal(await world.read(scene.namespace, 'favorite-clone'), undefined);
  });

  it('of 2.20.2 gets a clone of its own with them, which lives as long as the machine', async () => {
    const rights = documented('clone-rights', {
      'namespace: default }': `namespace: ${favourites} }`,
      'namespace: destination }': `namespace: ${scene.namespace} }`,
    });
    const running = await useDisk('my-favorite-vm-disk');
    await stack.kubectl(['create', '-f', '-'], { input: rights });
    await eventually('it waits for the favourite to be powered down', 60_000, async () => {
      const { conditions = [] } = (await world.read(scene.namespace, 'favorite-clone'))?.status ?? {};
      return conditions.find(
        ({ reason, message }) => reason === 'CloneSourceInUse' && message.includes(running),
      );
    });
    await world.core.deleteNamespacedPod({ namespace: favourites, name: running, gracePeriodSeconds: 0 });
    await world.awaitPhase(scene.namespace, 'favorite-clone', 'WaitForFirstConsumer');
    assert.deepEqual(await scene.said('vm-dv-clone', 'may start'), [
      'UnauthorizedDataVolumeCreate',
      'templates are not ready',
      'may start',
    ]);
    assert.deepEqual(
      scene.pods.filter(({ name }) => name.endsWith('vm-dv-clone')),
      [],
    );
    await startsOnCompleteDisk('vm-dv-clone', 'favorite-clone');
    const [clone, favourite] = await Promise.all([
      world.diskOf(scene.namespace, 'favorite-clone'),
      world.diskOf(favourites, 'my-favorite-vm-disk'),
    ]);
    assert.notEqual(clone, favourite);
    await goesWithItsDisk('vm-dv-clone', 'favorite-clone');
    await assertSameDisk(images.raw, 'raw', await world.diskOf(favourites, 'my-favorite-vm-disk'));
  });
});
