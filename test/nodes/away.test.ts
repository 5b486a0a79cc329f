import assert from 'node:assert/strict';
import { killProcess, machinePath, startProcess } from '../../local/index.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { makeImages, type Images } from '../live/images.js';
import { createWorld, eventually, sha256, type World } from '../live/world.js';
import { createPods, type Pods } from '../support/pods.js';
import { useStack } from '../support/stack.js';

const AWAY = 'node02';
const PROCESSES = [`kubelet-${AWAY}`, `worker-${AWAY}`] as const;

describe('a real node that goes away and comes back', function () {
  this.timeout(180_000);
  const stack = useStack({ nodes: 2 });
  let world: World;
  let pods: Pods;
  let images: Images;
  let server: FileServer;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    pods = createPods(stack);
    images = await makeImages({ sizeMiB: 16, dataMiB: 8 });
    server = await startFileServer({ path: await images.as('qcow2') });
    namespace = await world.createNamespace('away');
  });
  after(async () => {
    for (const name of PROCESSES) await startProcess(stack.info, name);
    await server?.close();
    await images?.remove();
  });

  const importOn = async (name: string) =>
    await world.createImport(
      namespace,
      name,
      { url: server.url },
      {},
      { 'kubevirt.io/provisionOnNode': AWAY },
    );
  const conditions = async (name: string): Promise<string> =>
    JSON.stringify((await world.read(namespace, name))?.status?.conditions ?? []);

  it('keeps the pods that run there, makes imports and removals wait that need it, and does both when it is back', async () => {
    for (const name of ['used', 'unused']) await importOn(name);
    for (const name of ['used', 'unused']) await world.awaitPhase(namespace, name, 'Succeeded');
    const unused = await world.diskOf(namespace, 'unused');
    const stay = 'while [ ! -e /disk/end ]; do sleep 0.2; done; sha256sum /disk/disk.img';
    const claims = { '/disk': { claim: 'used' } };
    await pods.create({ namespace, name: 'stays', script: stay, claims });
    await pods.awaitPhase({ namespace, name: 'stays' }, 'Running');

    for (const name of PROCESSES) killProcess(stack.info, name, 'SIGKILL');
    await importOn('waits');
    await world.remove(namespace, 'unused');
    await eventually('the import says what it waits for', 60_000, async () =>
      (await conditions('waits')).includes(AWAY) ? true : undefined,
    );
    await eventually('the volume is released', 30_000, async () => {
      const { items } = await world.core.listPersistentVolume();
      return items.find(
        ({ spec, status }) => spec?.claimRef?.name === 'unused' && status?.phase === 'Released',
      );
    });
    // What is on the node cannot be removed, so the volume has to stay.
    await sha256(unused);

    for (const name of PROCESSES) await startProcess(stack.info, name);
    await world.awaitPhase(namespace, 'waits', 'Succeeded', 90_000);
    const script = 'sha256sum /disk/disk.img | cut -d " " -f 1';
    const reader = await pods.run({
      namespace,
      name: 'reads',
      script,
      claims: { '/disk': { claim: 'waits' } },
    });
    assert.equal(reader.node, AWAY);
    const disk = await world.diskOf(namespace, 'waits');
    assert.equal(reader.output.trim(), await sha256(disk));
    assert.equal(await sha256(disk, images.virtualSize), await sha256(images.raw));
    await eventually(
      'the removal that waited',
      60_000,
      async () =>
        await sha256(unused).then(
          () => undefined,
          () => true,
        ),
    );
    // The pod that ran all the time has its disk still, and ends as it was told.
    assert.equal((await pods.read(namespace, 'stays')).status?.phase, 'Running');
    const used = await world.diskOf(namespace, 'used');
    assert.ok(used.startsWith(machinePath(stack.info, AWAY, stack.info.pool)), used);
    await stack.kubectl(['exec', '-n', namespace, 'stays', '--', 'touch', '/disk/end']);
    await pods.awaitPhase({ namespace, name: 'stays' }, 'Succeeded');
    assert.ok((await pods.logs(namespace, 'stays')).startsWith(await sha256(used)));
    for (const name of ['stays', 'reads']) await pods.remove(namespace, name);
  });
});
