/** Section 6.12.4, done on two real nodes as it is printed: statements 77-94, manifests M9 to M12, errata E6, E14 and E15. */
import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { machinePath } from '../../local/index.js';
import { createClones, type Clones } from '../live/clone-scene.js';
import { makeImages, type Images } from '../live/images.js';
import { recordHistory } from '../live/record.js';
import { assertSameDisk, createWorld, sha256, type World } from '../live/world.js';
import { projectPath } from '../docs/documents.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { createPods, type Pods } from '../support/pods.js';
import { useStack } from '../support/stack.js';
import { documented } from './documented.js';

const HERE = 'node02';
/** Where the printed commands move the disk. */
const THERE = 'node01';
const PRINTED = 'destination-pv';
const SOURCE = 'source-vm-disk';
const CLASS = projectPath('deploy/examples/storage-class-local.yaml');

describe('the chapter on moving a disk, word for word', function () {
  this.timeout(180_000);
  const stack = useStack({ nodes: 2 });
  let world: World;
  let pods: Pods;
  let clones: Clones;
  let images: Images;
  let server: FileServer;
  let namespace: string;
  let directory: string;

  before(async () => {
    world = createWorld(stack);
    pods = createPods(stack);
    images = await makeImages({ sizeMiB: 48, dataMiB: 24 });
    server = await startFileServer({ path: await images.as('qcow2') });
    namespace = await world.createNamespace('move');
    clones = createClones(stack, world, namespace);
    directory = await mkdtemp(join(tmpdir(), 'dvflow-move-'));
    await chmod(directory, 0o755);
    await mkdir(join(directory, 'disk1'));
    await stack.kubectl(['create', '-f', CLASS]);
    await world.createImport(
      namespace,
      SOURCE,
      { url: server.url },
      {},
      { 'kubevirt.io/provisionOnNode': HERE },
    );
    await world.awaitPhase(namespace, SOURCE, 'Succeeded');
  });
  after(async () => {
    await stack.kubectl(['delete', 'pv', PRINTED, '--ignore-not-found', '--wait=false']);
    await stack.kubectl(['delete', '-f', CLASS, '--ignore-not-found']);
    await server?.close();
    await images?.remove();
    if (directory) await rm(directory, { recursive: true, force: true });
  });

  it('begins with a disk on the wrong node, and a machine that is powered down', async () => {
    const claims = { '/disk': { claim: SOURCE } };
    await pods.create({ namespace, name: 'vm', script: 'sleep 600', claims });
    const { spec } = await pods.awaitPhase({ namespace, name: 'vm' }, 'Running');
    assert.equal(spec?.nodeName, HERE);
    await clones.clone('too-early', SOURCE);
    await clones.awaitReason(
      'too-early',
      'CloneSourceInUse',
      new RegExp(`^pod ${namespace}/vm using PersistentVolumeClaim ${SOURCE}$`),
    );
    await pods.remove(namespace, 'vm');
    await world.awaitPhase(namespace, 'too-early', 'Succeeded');
    await world.remove(namespace, 'too-early');
  });

  it('makes a local volume on the other node and labels it, by the printed commands', async () => {
    const input = documented('destination-volume', {
      '/mnt/local-storage/local/disk1': join(directory, 'disk1'),
    });
    await stack.kubectl(['create', '-f', '-'], { input });
    const shown = await stack.kubectl(['get', 'pv', PRINTED, '-o', 'yaml']);
    assert.match(shown, /key: kubernetes\.io\/hostname\n\s+operator: In\n\s+values:\n\s+- node01/);
    await stack.kubectl(['label', 'pv', PRINTED, `node=${THERE}`]);
  });

  it('clones the disk into that volume, by the printed DataVolume, which names no class (E6)', async () => {
    const input = documented('clone', { 'source-vm-disk': SOURCE, 'source-namespace': namespace });
    await stack.kubectl(['apply', '-n', namespace, '-f', '-'], { input });
    const done = await world.awaitPhase(namespace, 'clone-datavolume', 'Succeeded', 120_000);
    const claim = await world.claim(namespace, 'clone-datavolume');
    assert.deepEqual([claim?.spec?.volumeName, claim?.spec?.storageClassName], [PRINTED, 'local']);
    assert.match(
      claim?.metadata?.annotations?.['cdi.kubevirt.io/cloneFallbackReason'] ?? '',
      /^DifferentNodes: source is on node node02, target on node node01$/,
    );
    const moved = join(directory, 'disk1', 'disk.img');
    await assertSameDisk(images.raw, 'raw', moved);
    assert.ok((await stat(moved)).blocks * 512 < images.virtualSize, 'it is sparse');
    await recordHistory(stack, clones.idOf(done), 'cloneDataVolume.succeeded.moved');
  });

  it('gives the machine its disk on the new node', async () => {
    const script = `head -c ${images.virtualSize} /disk/disk.img | sha256sum | cut -d " " -f 1`;
    const claims = { '/disk': { claim: 'clone-datavolume' } };
    const ran = await pods.run({ namespace, name: 'moved', script, claims });
    assert.equal(ran.node, THERE);
    assert.equal(ran.output.trim(), await sha256(images.raw));
    await pods.remove(namespace, 'moved');
  });

  it('fails where the claim asks for less than the source (E14), and waits where the volume is too small, with both figures', async () => {
    const pvc = (storage: string) => ({
      storage: undefined,
      pvc: {
        accessModes: ['ReadWriteOnce'],
        selector: { matchLabels: { node: THERE } },
        resources: { requests: { storage } },
      },
    });
    await clones.clone('smaller', SOURCE, { spec: pvc('10Mi') });
    const failed = await world.awaitPhase(namespace, 'smaller', 'Failed');
    const running = failed.status?.conditions?.find(({ type }) => type === 'Running');
    assert.match(running?.message ?? '', /smaller than the source: .* asks for 10485760 bytes, .* for \d+/);
    await clones.clone('larger', SOURCE, { spec: pvc('11Gi') });
    await clones.awaitReason(
      'larger',
      'FailedBinding',
      /has 10737418240 bytes, the claim asks for 11811160064/,
    );
    await world.remove(namespace, 'larger');
  });

  it('moves a disk of the hostpath class by provisionOnNode, since its volumes are made when they are needed (E15)', async () => {
    const selector = { matchLabels: { node: THERE } };
    const pvc = {
      accessModes: ['ReadWriteOnce'],
      storageClassName: 'hostpath-provisioner',
      selector,
      resources: { requests: { storage: '1Gi' } },
    };
    await clones.clone('selected', SOURCE, { spec: { storage: undefined, pvc } });
    await clones.awaitReason(
      'selected',
      'FailedBinding',
      /of StorageClass "hostpath-provisioner" .*(is not a local volume|there is none)/,
    );
    await world.remove(namespace, 'selected');
    const made = await clones.clone('named', SOURCE, {
      annotations: { 'kubevirt.io/provisionOnNode': THERE },
    });
    await world.awaitPhase(namespace, 'named', 'Succeeded');
    const disk = await world.diskOf(namespace, 'named');
    assert.ok(disk.startsWith(machinePath(stack.info, THERE, stack.info.pool)), disk);
    await assertSameDisk(images.raw, 'raw', disk);
    await recordHistory(stack, clones.idOf(made), 'cloneDataVolume.succeeded.on-node');
  });
});
