/** Sections 6.12.3.3 and 6.12.3.4, done as they are printed and as dvflow does them: statements 58-66, manifest M6, errata E2 and E5. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { LocalBlockVolumeResult } from '../../activities/types/local-volumes.js';
import { projectPath } from '../docs/documents.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from '../live/images.js';
import { assertSameDisk, createWorld, eventually, type World } from '../live/world.js';
import { documented } from './documented.js';

const run = promisify(execFile);
const GIB = 2 ** 30;
const MIB = 2 ** 20;
const PRINTED = 'local-block-pv10';
/** The class that the printed volume names. */
const CLASS = projectPath('deploy/examples/storage-class-local.yaml');

describe('the chapter on block volumes, word for word', function () {
  this.timeout(120_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let server: FileServer;
  let namespace: string;
  let directory: string;
  let device: string | undefined;

  before(async function () {
    if (process.getuid?.() !== 0) {
      this.test!.title += ' (loop devices need root)';
      this.skip();
    }
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 32, dataMiB: 16 });
    server = await startFileServer({ path: await images.as('qcow2') });
    namespace = await world.createNamespace('block');
    await stack.kubectl(['create', '-f', CLASS]);
    directory = await mkdtemp(join(tmpdir(), 'dvflow-block-'));
  });
  after(async () => {
    if (device !== undefined) await run('losetup', ['--detach', device]);
    await stack.kubectl(['delete', '-f', CLASS, '--ignore-not-found']);
    await server?.close();
    await images?.remove();
    if (directory) await rm(directory, { recursive: true });
  });

  /** A DataVolume whose claim says what E5 misses in the printed one: mode and class. */
  async function importInto(name: string, size: string, storageClassName: string): Promise<void> {
    const pvc = {
      accessModes: ['ReadWriteOnce'],
      volumeMode: 'Block',
      storageClassName,
      resources: { requests: { storage: size } },
    };
    await world.createImport(namespace, name, { url: server.url }, { storage: undefined, pvc });
  }

  it('makes file, loop device and PersistentVolume by the printed commands', async () => {
    // conv=sparse is ours: the zeros need not lie on the disk of whoever runs the tests
    await run('dd', ['if=/dev/zero', 'of=loop10', 'bs=100M', 'count=20', 'conv=sparse'], { cwd: directory });
    const { stdout } = await run('losetup', ['--show', '--find', 'loop10'], { cwd: directory });
    device = stdout.trim();
    const { stdout: size } = await run('blockdev', ['--getsize64', device]);
    assert.equal(Number(size), 2000 * MIB, 'E2: that is less than the 2Gi of the manifest');
    const input = documented('local-block-volume', { '/dev/loop10': device, node01: stack.info.node });
    await stack.kubectl(['create', '-f', '-'], { input });
  });

  it('refuses a claim of the printed size, since the printed file is smaller: VolumeTooSmall with both figures', async () => {
    await importInto('as-printed', '2Gi', 'local');
    const failed = await world.awaitPhase(namespace, 'as-printed', 'Failed', 60_000);
    const running = failed.status?.conditions?.find(({ type }) => type === 'Running');
    assert.equal(running?.reason, 'VolumeTooSmall', running?.message);
    assert.match(running.message, new RegExp(`${2000 * MIB} bytes.* needs ${2 * GIB}`));
    await world.remove(namespace, 'as-printed');
    await eventually('the volume is Available again', 60_000, async () =>
      (await world.core.readPersistentVolume({ name: PRINTED })).status?.phase === 'Available'
        ? true
        : undefined,
    );
  });

  it('imports into the raw device of that volume, through a claim of mode Block', async () => {
    await importInto('on-device', '2000Mi', 'local');
    await world.awaitPhase(namespace, 'on-device', 'Succeeded');
    await assertBound('on-device', PRINTED);
    await assertSameDisk(images.raw, 'raw', device!);
    await world.remove(namespace, 'on-device');
    await stack.kubectl(['delete', 'pv', PRINTED]);
  });

  it('makes file, device and volume of the very size in one workflow, and imports into it', async () => {
    const made = (await stack.temporal.workflow.execute('localBlockVolume', {
      taskQueue: 'dvflow',
      workflowId: `local-volume/${PRINTED}`,
      args: [{ name: PRINTED, node: stack.info.node, size: '2Gi' }],
    })) as LocalBlockVolumeResult;
    assert.equal(made.bytes, 2 * GIB);
    const { spec } = await world.core.readPersistentVolume({ name: PRINTED });
    assert.equal(spec?.volumeMode, 'Block');
    assert.equal(spec.storageClassName, 'local');
    assert.equal(spec.local?.path, made.path);
    const [term] = spec.nodeAffinity?.required?.nodeSelectorTerms ?? [];
    assert.deepEqual(term?.matchExpressions?.[0]?.values, [stack.info.node]);
    await importInto('on-made', '2Gi', 'local');
    await world.awaitPhase(namespace, 'on-made', 'Succeeded');
    await assertBound('on-made', PRINTED);
    await assertSameDisk(images.raw, 'raw', made.path);
  });

  it('removes device, file and volume in one workflow', async () => {
    const { spec } = await world.core.readPersistentVolume({ name: PRINTED });
    await world.remove(namespace, 'on-made');
    await eventually('the claim is gone', 60_000, async () =>
      (await world.claim(namespace, 'on-made')) === undefined ? true : undefined,
    );
    await stack.temporal.workflow.execute('deleteLocalBlockVolume', {
      taskQueue: 'dvflow',
      workflowId: `local-volume/delete/${PRINTED}`,
      args: [{ name: PRINTED }],
    });
    await assert.rejects(run('blockdev', ['--getsize64', spec!.local!.path]));
    await assert.rejects(world.core.readPersistentVolume({ name: PRINTED }), { code: 404 });
  });

  async function assertBound(name: string, volume: string): Promise<void> {
    const claim = await world.claim(namespace, name);
    assert.equal(claim?.status?.phase, 'Bound');
    assert.deepEqual([claim.spec?.volumeName, claim.spec?.volumeMode], [volume, 'Block']);
  }
});
