import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { makeImages, type Images } from '../live/images.js';
import { assertSameDisk, createWorld, eventually, sha256, type World } from '../live/world.js';
import { createPods, type Pods } from '../support/pods.js';
import { useStack } from '../support/stack.js';

const MiB = 1 << 20;
const WAITS_FOR_CONSUMER = { 'cdi.kubevirt.io/storage.bind.immediate.requested': undefined };

/** Who the pod is, what it finds, and the disk's first so many bytes. */
const look = (bytes: number): string =>
  `id -u; id -G; stat -c '%u:%g %a %s' /disk/disk.img; head -c ${bytes} /disk/disk.img | sha256sum`;

describe('pods on two real nodes', function () {
  this.timeout(120_000);
  const stack = useStack({ nodes: 2 });
  let world: World;
  let pods: Pods;
  let images: Images;
  let server: FileServer;
  let namespace: string;
  let sum: string;
  let inventory: readonly string[];

  before(async () => {
    world = createWorld(stack);
    pods = createPods(stack);
    images = await makeImages({ sizeMiB: 48, dataMiB: 24 });
    sum = await sha256(images.raw);
    server = await startFileServer({ path: await images.as('qcow2') });
    inventory = await world.inventory();
    namespace = await world.createNamespace('pods');
  });
  after(async () => {
    await server?.close();
    await images?.remove();
  });

  const found = (name: string): string =>
    readdirSync(stack.info.nodes.find((node) => node.name === name)!.pool)
      .filter((entry) => entry.startsWith('pvc-'))
      .sort()
      .join();

  it('are chosen a node by the scheduler, where the disk is then made; they start on the complete disk, as uid 107', async () => {
    server.setRate(4 * MiB);
    await world.createImport(namespace, 'first', { url: server.url }, {}, WAITS_FOR_CONSUMER);
    await world.awaitPhase(namespace, 'first', 'WaitForFirstConsumer', 20_000);
    const claim = await world.claim(namespace, 'first');
    assert.equal(claim?.status?.phase, 'Pending');
    assert.equal(claim.metadata?.annotations?.['volume.kubernetes.io/selected-node'], undefined);
    const script = look(images.virtualSize);
    await pods.create({ namespace, name: 'qemu', script, claims: { '/disk': { claim: 'first' } } });
    await world.awaitPhase(namespace, 'first', 'ImportInProgress', 20_000);
    const sent = server.bytesSent();
    await eventually('bytes', 30_000, async () => (server.bytesSent() > sent + 4 * MiB ? true : undefined));
    // Half of the disk is there: neither is the claim Bound, nor is the pod on a node.
    assert.equal((await world.claim(namespace, 'first'))?.status?.phase, 'Pending');
    const waiting = await pods.read(namespace, 'qemu');
    assert.equal(waiting.status?.phase, 'Pending');
    assert.equal(waiting.spec?.nodeName, undefined);
    server.setRate(undefined);
    await world.awaitPhase(namespace, 'first', 'Succeeded', 60_000);
    const { spec } = await pods.awaitPhase({ namespace, name: 'qemu' }, 'Succeeded');
    const bound = await world.claim(namespace, 'first');
    assert.equal(spec?.nodeName, bound?.metadata?.annotations?.['volume.kubernetes.io/selected-node']);
    const [uid, groups, file, digest] = (await pods.logs(namespace, 'qemu')).trim().split('\n');
    assert.equal(uid, '107');
    assert.equal(groups, '107');
    assert.match(file!, /^107:107 660 \d+$/);
    assert.equal(digest, `${sum}  -`);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'first'));
  });

  it('pinned to a node have their disk on that node and on no other', async () => {
    const before = { node01: found('node01'), node02: found('node02') };
    for (const node of ['node02', 'node01'] as const) {
      const name = `on-${node}`;
      await world.createImport(namespace, name, { url: server.url }, {}, WAITS_FOR_CONSUMER);
      const script = look(images.virtualSize);
      const ran = await pods.run({ namespace, name, script, node, claims: { '/disk': { claim: name } } });
      assert.equal(ran.node, node);
      assert.ok(ran.output.includes(sum), ran.output);
      const volume = (await world.claim(namespace, name))!.spec!.volumeName!;
      const other = node === 'node02' ? 'node01' : 'node02';
      assert.ok(found(node).includes(volume), found(node));
      assert.ok(!found(other).includes(volume), found(other));
      assert.notEqual(found(node), before[node]);
    }
    // Under the path that both nodes know, this machine itself has nothing.
    assert.deepEqual(
      readdirSync(stack.info.pool).filter((entry) => entry.startsWith('pvc-')),
      [],
    );
  });

  it('use a disk that was there before them, write into it, and the next pod finds it on the same node', async () => {
    await world.createImport(namespace, 'early', { url: server.url });
    await world.awaitPhase(namespace, 'early', 'Succeeded');
    const claims = { '/disk': { claim: 'early' } };
    const write = `printf dvflow-was-here | dd of=/disk/disk.img bs=1 seek=512 conv=notrunc,fsync 2>/dev/null`;
    const writer = await pods.run({ namespace, name: 'writer', script: write, claims });
    const read = 'dd if=/disk/disk.img bs=1 skip=512 count=15 2>/dev/null; cat /disk/disk.img | wc -c';
    const reader = await pods.run({ namespace, name: 'reader', script: read, claims });
    assert.equal(reader.node, writer.node);
    assert.match(reader.output, /^dvflow-was-here\d+\n$/);
    assert.equal(await sha256(await world.diskOf(namespace, 'early'), 512), await sha256(images.raw, 512));
  });

  it('of other users cannot read the disk', async () => {
    const securityContext = { runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000 };
    const claims = { '/disk': { claim: 'early' } };
    const script = 'cat /disk/disk.img > /dev/null 2>&1 || echo refused';
    const { output } = await pods.run({ namespace, name: 'stranger', script, claims, securityContext });
    assert.equal(output.trim(), 'refused');
  });

  it('and their claims gone, leave nothing on either node', async () => {
    for (const name of ['qemu', 'on-node01', 'on-node02', 'writer', 'reader', 'stranger']) {
      await pods.remove(namespace, name);
    }
    const disks = await Promise.all(
      ['first', 'on-node01', 'early'].map((name) => world.diskOf(namespace, name)),
    );
    for (const name of ['first', 'on-node01', 'on-node02', 'early']) await world.remove(namespace, name);
    await world.assertUnchanged(inventory, 60_000);
    for (const disk of disks) assert.equal(existsSync(disk), false);
  });
});
