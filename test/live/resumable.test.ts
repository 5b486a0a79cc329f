import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { killProcess, restartProcess } from '../../local/index.js';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from './images.js';
import { awaitProgress, awaitWritten, startUpload } from './upload-command.js';
import { assertSameDisk, createWorld, type World } from './world.js';

const MIB = 1024 * 1024;

describe('dvflow upload against the real thing', function () {
  this.timeout(240_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let namespace: string;
  let directory: string;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 512, dataMiB: 384 });
    namespace = await world.createNamespace('resumable');
    directory = await mkdtemp(join(tmpdir(), 'dvflow-resumable-'));
  });
  after(async () => {
    await images.remove();
    await rm(directory, { recursive: true });
  });

  const place = () => ({ stack, namespace, stateHome: directory });
  const start = (file: string, name: string, ...more: readonly string[]) =>
    startUpload(place(), file, name, '--size=520Mi', ...more);
  const progress = async (name: string, percent: number): Promise<void> =>
    await awaitProgress(world, place(), name, percent);

  it('survives a kill -9 of the node worker and a restart of the gateway, and sends hardly anything twice', async () => {
    const { done } = start(images.raw, 'killed', '--checksum', 'sha256');
    await progress('killed', 15);
    killProcess(stack.info, 'worker-node');
    await restartProcess(stack.info, 'worker-node');
    await progress('killed', 50);
    await restartProcess(stack.info, 'worker-gateway');
    const { bytes, bytesSent, retries } = await done;
    await world.awaitPhase(namespace, 'killed', 'Succeeded', 30_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'killed'));
    assert.ok(retries >= 1, `${retries} retries`);
    // what was on its way when a process died, of the whole file
    console.log(
      `      sent ${((100 * bytesSent) / bytes).toFixed(1)} % of ${bytes / MIB} MiB, ${retries} retries`,
    );
  });

  it('goes on where the disk is when the command itself is killed and typed again', async () => {
    const file = await images.as('qcow2');
    const first = start(file, 'again');
    first.done.catch(() => undefined);
    await awaitWritten(world, { pool: stack.info.pool, namespace }, 'again', 96 * MIB);
    first.child.kill('SIGKILL');
    const { resumed, bytes, bytesSent } = await start(file, 'again').done;
    assert.equal(resumed, true);
    assert.ok(bytesSent < bytes, `${bytesSent} of ${bytes}`);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'again'));
  });

  it('says what is wrong with a file, and the DataVolume stays open', async () => {
    const file = await images.as('qcow2');
    const wrong = start(file, 'wrong', '--checksum', `sha256:${'0'.repeat(64)}`);
    await assert.rejects(wrong.done, /checksum/i);
    assert.equal((await world.read(namespace, 'wrong'))?.status?.phase, 'UploadReady');
    await start(file, 'wrong', '--checksum', 'sha256').done;
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'wrong'));
  });
});
