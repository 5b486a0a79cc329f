/** Section 6.12.5, done as it is printed: statements 95-101, manifest M13. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { projectPath } from '../docs/documents.js';
import { useStack } from '../support/stack.js';
import { createWorld, eventually, type World } from '../live/world.js';
import { consumerOf, documented } from './documented.js';

const NAME = 'blank-image-datavolume';
const MIB = 2 ** 20;
/** Of 500Mi less 6 % for the file system, in whole mebibytes. */
const DISK = 471 * MIB;
const CLASS = projectPath('deploy/examples/storage-class-local.yaml');

describe('the chapter on blank disk images, word for word', function () {
  this.timeout(120_000);
  const stack = useStack();
  let world: World;
  let namespace: string;
  let directory: string;

  before(async () => {
    world = createWorld(stack);
    namespace = await world.createNamespace('blank-chapter');
    directory = mkdtempSync(join(tmpdir(), 'dvflow-blank-'));
    await stack.kubectl(['create', '-f', CLASS]);
  });
  after(async () => {
    await stack.kubectl(['delete', 'pv', 'blank-chapter', '--ignore-not-found']);
    await stack.kubectl(['delete', '-f', CLASS, '--ignore-not-found']);
    rmSync(directory, { recursive: true });
  });

  /** `oc create -f <blank-image-datavolume>.yaml` */
  async function create(manifest: string): Promise<void> {
    const made = await stack.kubectl(['create', '-n', namespace, '-f', '-'], { input: manifest });
    assert.equal(made.trim(), `datavolume.cdi.kubevirt.io/${NAME} created`);
  }

  it('makes a disk in a claim out of the printed DataVolume, for the machine that uses it first', async () => {
    await create(documented('blank'));
    await world.awaitPhase(namespace, NAME, 'WaitForFirstConsumer', 20_000);
    await world.core.createNamespacedPod({ namespace, body: consumerOf(NAME) });
    await world.awaitPhase(namespace, NAME, 'Succeeded', 60_000);
    const claim = await world.claim(namespace, NAME);
    assert.equal(claim?.status?.phase, 'Bound');
    assert.equal(claim.spec?.storageClassName, 'hostpath-provisioner', 'the default class');
    assert.deepEqual(claim.spec?.accessModes, ['ReadWriteOnce']);
    const disk = await world.diskOf(namespace, NAME);
    assert.equal(statSync(disk).size, DISK);
    assert.ok(statSync(disk).blocks * 512 < MIB);
    await eventually('the machine has its node', 30_000, async () => {
      const pod = await world.core.readNamespacedPod({ namespace, name: 'consumer' });
      return pod.spec?.nodeName;
    });
    await world.core.deleteNamespacedPod({ namespace, name: 'consumer', gracePeriodSeconds: 0 });
  });

  it('adds room to a machine: the disk takes a file system, and holds what is written', async () => {
    const disk = await world.diskOf(namespace, NAME);
    execFileSync('mkfs.ext4', ['-q', '-F', '-d', join(projectPath('deploy'), 'examples'), disk]);
    execFileSync('e2fsck', ['-fn', disk], { stdio: 'ignore' });
    const found = execFileSync('debugfs', ['-R', 'cat /blank.yaml', disk], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    assert.equal(found, readFileSync(projectPath('deploy/examples/blank.yaml'), 'utf8'));
    assert.equal(statSync(disk).size, DISK);
    await world.remove(namespace, NAME);
    await eventually('the claim goes with it', 30_000, async () =>
      (await world.claim(namespace, NAME)) === undefined ? true : undefined,
    );
  });

  it('waits for an available PersistentVolume where the chosen class has none, and takes the first one', async () => {
    // the optional line of the printed manifest, with a class that nothing provisions
    const chosen = { 'accessModes:': 'storageClassName: local\n    accessModes:' };
    await create(documented('blank', chosen));
    await eventually('it says what it waits for', 30_000, async () => {
      const found = await world.read(namespace, NAME);
      return found?.status?.conditions?.find(({ reason }) => reason === 'FailedBinding');
    });
    const path = join(directory, 'volume');
    execFileSync('mkdir', ['--mode=0755', path]);
    const values = {
      'name: local-block-pv10': 'name: blank-chapter',
      '/dev/loop10': path,
      node01: stack.info.node,
      'volumeMode: Block': 'volumeMode: Filesystem',
    };
    await stack.kubectl(['create', '-f', '-'], { input: documented('local-block-volume', values) });
    await world.awaitPhase(namespace, NAME, 'Succeeded', 60_000);
    assert.equal((await world.claim(namespace, NAME))?.spec?.volumeName, 'blank-chapter');
    assert.equal(statSync(join(path, 'disk.img')).size, DISK);
    await world.remove(namespace, NAME);
  });
});
