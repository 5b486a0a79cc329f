import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { killProcess, restartProcess } from '../../local/index.js';
import { makeImages, type Images } from '../live/images.js';
import { assertSameDisk, createWorld, eventually, type World } from '../live/world.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { useStack } from '../support/stack.js';

const run = promisify(execFile);
const GiB = 2 ** 30;

/** A 256 MiB record and the windows in flight, of 4 GiB: 8 %, and room for the probe. */
const MOST = 1.1;

describe('kill -9 of the node worker at half of 4 GiB', function () {
  this.timeout(900_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let namespace: string;
  let server: FileServer;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 4096, dataMiB: 4096 });
    namespace = await world.createNamespace('large');
  });
  afterEach(async () => await server.close());
  after(async () => await images.remove());

  async function killedHalfWay(form: string): Promise<number> {
    const path = await images.as(form);
    const { size } = await stat(path);
    server = await startFileServer({ path });
    const name = `large-${form.replace('.', '-')}`;
    const storage = { resources: { requests: { storage: '4Gi' } }, storageClassName: 'hostpath-provisioner' };
    await world.createImport(namespace, name, { url: server.url }, { storage });
    await eventually('half of the bytes', 300_000, async () =>
      server.bytesSent() > size / 2 ? true : undefined,
    );
    killProcess(stack.info, 'worker-node', 'SIGKILL');
    await restartProcess(stack.info, 'worker-node');
    const done = await world.awaitPhase(namespace, name, 'Succeeded', 600_000);
    assert.equal(done.status?.restartCount, 1);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, name));
    await world.remove(namespace, name);
    const ratio = server.bytesSent() / size;
    console.log(
      `        ${form}: ${server.bytesSent()} bytes sent of ${size}: ${(100 * ratio).toFixed(1)} %`,
    );
    return ratio;
  }

  for (const form of ['raw', 'qcow2']) {
    it(`${form}, over ranges: at most 110 % of it is fetched`, async () => {
      assert.ok((await killedHalfWay(form)) <= MOST);
    });
  }

  for (const form of ['raw.gz', 'raw.xz']) {
    it(`${form}: the source is read again, since the chain cannot be entered in the middle; nothing durable is written again`, async () => {
      const path = join(images.directory, 'disk.raw');
      await run('truncate', ['--size', `${GiB}`, path]);
      assert.ok((await killedHalfWay(form)) > 1);
    });
  }
});
