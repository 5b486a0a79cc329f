import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { killProcess, restartProcess } from '../../local/index.js';
import { makeImages, type Images } from '../live/images.js';
import { awaitProgress, startUpload } from '../live/upload-command.js';
import { assertSameDisk, createWorld, type World } from '../live/world.js';
import { useStack } from '../support/stack.js';

describe('a long upload', function () {
  this.timeout(900_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let directory: string;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 4096, dataMiB: 1024 });
    directory = await mkdtemp(join(tmpdir(), 'dvflow-long-upload-'));
  });
  after(async () => {
    await images.remove();
    await rm(directory, { recursive: true });
  });

  it('of 4 GiB, through a kill -9 of the node worker and a restart of the gateway, sends at most 110 % of the file', async () => {
    const place = { stack, namespace: await world.createNamespace('long'), stateHome: directory };
    const { done } = startUpload(place, images.raw, 'long', '--size=4Gi', '--checksum', 'sha256');
    await awaitProgress(world, place, 'long', 30);
    killProcess(stack.info, 'worker-node');
    await restartProcess(stack.info, 'worker-node');
    await awaitProgress(world, place, 'long', 60);
    await restartProcess(stack.info, 'worker-gateway');
    const { bytes, bytesSent, retries } = await done;
    await assertSameDisk(images.raw, 'raw', await world.diskOf(place.namespace, 'long'));
    console.log(`      sent ${((100 * bytesSent) / bytes).toFixed(1)} % of the file, ${retries} retries`);
    assert.ok(bytesSent <= bytes * 1.1, `${bytesSent} of ${bytes}`);
  });
});
