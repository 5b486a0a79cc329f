import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { MockActivityEnvironment } from '@temporalio/testing';
import { createServeActivities } from '../../../activities/image/clone/serve.js';
import { measureTree } from '../../../activities/image/clone/tree.js';
import { createNodeActivities } from '../../../activities/node/index.js';
import type { SourceVolume } from '../../../activities/types/clone.js';
import type { DataPort } from '../../../activities/types/data-port.js';
import { send } from '../../workers/data-port-client.js';
import { allocated, makeSource, makeSparse, sourceVolume, traceOf } from '../support/clone.js';
import { makePatterned, MIB, sha256, useDirectory } from '../support/images.js';
import { readDevice, useLoopDevices } from '../support/loop-device.js';
import { refusal } from '../support/refused.js';
import { useServedVolumes } from '../support/served.js';
import { moversOf, until, USER } from '../support/transfer.js';

describe('a clone over the data port of another node', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  const loops = useLoopDevices({ optional: true });
  const volumes = useServedVolumes(directory);
  const { serve, reserveRemote } = volumes;

  it('fetches what holds data and no hole, and reads without a trace', async () => {
    const { volume, disk: source } = makeSource(directory(), (path) =>
      makeSparse(path, 512 * MIB, [
        [5 * MIB + 4096, 20 * MIB],
        [300 * MIB, 12 * MIB + 512],
      ]),
    );
    const before = traceOf(source);
    const { url } = await serve(volume);
    const { disk, start, input } = await reserveRemote(volume, url, 520 * MIB);
    const result = await start().done;
    assert.equal(traceOf(source), before);
    execFileSync('cmp', ['--bytes', `${512 * MIB}`, source, disk]);
    assert.equal(statSync(disk).size, 520 * MIB);
    assert.ok(allocated(disk) <= 34 * MIB, `${allocated(disk)} bytes are allocated`);
    assert.ok(result.bytesTransferred <= 34 * MIB, `${result.bytesTransferred} bytes came`);
    const node = createNodeActivities({ node: 'here', transferUser: USER });
    await node.verifyImage({ directory: input.target, transferred: result });
  });

  it('goes on where a killed process was, and fetches little again', async () => {
    const { volume, disk: source } = makeSource(directory(), (path) => void makePatterned(path, 400));
    const { url } = await serve(volume);
    const { disk, start, record, state } = await reserveRemote(volume, url, 400 * MIB);
    const completed = (): number =>
      existsSync(`${state}/record.json`) ? (record().durable?.completed ?? 0) : 0;
    const attempt = start();
    await until(attempt.done, () => completed() > 0);
    for (const pid of moversOf(disk)) process.kill(pid, 'SIGKILL');
    await assert.rejects(attempt.done, refusal('NodeUnavailable', /was killed/, false));
    const durable = completed();
    const result = await start(2).done;
    assert.equal(result.resumedFrom, durable);
    execFileSync('cmp', [source, disk]);
    rmSync(source);
  });

  it('outlives a data port that goes away and comes back', async () => {
    const { volume, disk: source } = makeSource(directory(), (path) => void makePatterned(path, 256));
    const uid = randomUUID();
    const node = createServeActivities('source', volumes.port);
    const { url } = await node.locateVolume({ uid });
    const { disk, start } = await reserveRemote(volume, url, 256 * MIB);
    const attempt = start();
    await pause(700);
    const input = { uid, volume, contentType: 'kubevirt', generation: 1, url } as const;
    for (const end of [false, true]) {
      const environment = new MockActivityEnvironment();
      const served = environment.run(() => node.serveVolume(input)).catch(() => undefined);
      if (end) await attempt.done;
      else await until(attempt.done, () => attempt.beats.some(({ bytesRead }) => bytesRead > 0));
      environment.cancel();
      await served;
    }
    execFileSync('cmp', [source, disk]);
  });

  const wrongs: Record<string, (body: Buffer) => Buffer> = {
    'that were damaged on the way': (body) =>
      body.map((byte, at) => (at === 4711 ? byte ^ 1 : byte)) as Buffer,
    'that are fewer than were asked for': (body) => body.subarray(100),
    'that are more than were asked for': (body) => Buffer.concat([body, body]),
  };
  for (const [how, wrong] of Object.entries(wrongs))
    it(`asks again for bytes ${how}`, async () => {
      const { volume, disk: source } = makeSource(directory(), (path) => void makePatterned(path, 32));
      let times = 0;
      const through: DataPort = {
        urlOf: (resource) => volumes.port.urlOf(resource),
        open: (resource) =>
          volumes.port.open({
            ...resource,
            async handle(request, response) {
              const write = response.write.bind(response) as (body: Buffer, done: () => void) => boolean;
              response.write = ((body: Buffer, done: () => void) => {
                const isWrong = body.length === MIB && times < 3;
                if (isWrong) times += 1;
                return write(isWrong ? wrong(body) : body, done);
              }) as typeof response.write;
              await resource.handle(request, response);
            },
          }),
      };
      const { url } = await serve(volume, { through });
      const { disk, start } = await reserveRemote(volume, url, 32 * MIB);
      await start().done;
      assert.equal(times, 3);
      execFileSync('cmp', [source, disk]);
    });

  it('says that the source changed, and that it was removed', async () => {
    for (const [change, failure] of [
      [(source: string) => writeFileSync(source, 'new'), refusal('SourceChanged', /changed/, false)],
      [
        (source: string) => rmSync(source),
        refusal('SourceNotFound', /was removed while it was cloned/, true),
      ],
    ] as const) {
      const { volume, disk: source } = makeSource(directory(), (path) => void makePatterned(path, 160));
      const { url } = await serve(volume);
      const { disk, start } = await reserveRemote(volume, url, 160 * MIB);
      const attempt = start();
      await until(attempt.done, () => existsSync(disk) && allocated(disk) > 0);
      change(source);
      await assert.rejects(attempt.done, failure);
    }
  });

  it('lets only nodes of dvflow in, and answers only what is asked rightly', async () => {
    const { volume } = makeSource(directory(), (path) => void makePatterned(path, 1));
    const { url: located, stop } = await serve(volume);
    const url = `${located}.1`;
    const as = (peer: 'dvflow-gateway' | 'dvflow-node', more: object = {}) => ({
      ...volumes.loopback.client(peer),
      ...more,
    });
    assert.equal((await send(url, as('dvflow-gateway'))).status, 403);
    const asked = async (range?: string, method = 'GET', query = '') =>
      (await send(`${url}${query}`, as('dvflow-node', { method, headers: range ? { range } : {} }))).status;
    assert.equal(await asked('bytes=0-99'), 206);
    assert.equal(await asked(undefined, 'HEAD'), 200);
    for (const wrong of ['bytes=0-1048576', 'bytes=-1', 'bytes=5-4', 'bytes=0-1,3-4', 'pages=0-1'])
      assert.equal(await asked(wrong), 416, wrong);
    assert.equal(await asked(undefined, 'PUT'), 405);
    assert.equal(await asked(undefined, 'GET', '?extents=0-1048576'), 200);
    assert.equal(await asked(undefined, 'GET', '?extents=0-1048577'), 416);
    const stale = { headers: { 'if-match': '"old"', range: 'bytes=0-1' } };
    assert.equal((await send(url, as('dvflow-node', stale))).status, 412);
    await stop();
    assert.equal((await send(url, as('dvflow-node', { method: 'HEAD' }))).status, 503);
  });

  it('tells its lifecycle when the port is another one than it was', async () => {
    const { volume } = makeSource(directory(), (path) => void makePatterned(path, 1));
    const node = createServeActivities('source', volumes.port);
    const environment = new MockActivityEnvironment();
    const input = { uid: randomUUID(), volume, contentType: 'kubevirt', generation: 1 } as const;
    const served = environment.run(() => node.serveVolume({ ...input, url: 'https://127.0.0.1:1/volume/x' }));
    await assert.rejects(served, refusal('NodeUnavailable', /has moved to https/, true));
  });

  it('takes a device', async function () {
    if (!loops.available) return this.skip();
    const backing = `${directory()}/served.backing`;
    const device = loops.make(backing, 24 * MIB, { dirty: false });
    execFileSync('dd', ['if=/dev/urandom', `of=${device}`, 'bs=1M', 'seek=9', 'count=5', 'conv=fsync'], {
      stdio: 'ignore',
    });
    const volume = sourceVolume(device, { volumeMode: 'Block' });
    const { url, stop } = await serve(volume);
    const { disk, start } = await reserveRemote(volume, url, 24 * MIB);
    const result = await start().done;
    assert.equal(result.virtualSize, 24 * MIB);
    assert.deepEqual(readFileSync(disk), readDevice(backing, device));
    assert.ok(allocated(disk) <= 6 * MIB, `${allocated(disk)} bytes are allocated`);
    await stop();
  });

  /** A volume with files as a tenant makes them. */
  function makeTree(): SourceVolume {
    const path = `${directory()}/pvc-${randomUUID()}`;
    mkdirSync(`${path}/a/b`, { recursive: true });
    writeFileSync(`${path}/a/b/file`, 'content');
    chmodSync(`${path}/a/b/file`, 0o640);
    utimesSync(`${path}/a/b/file`, 1_000_000_000, 1_000_000_000);
    symlinkSync('b/file', `${path}/a/link`);
    linkSync(`${path}/a/b/file`, `${path}/a/twin`);
    writeFileSync(`${path}/${'long-'.repeat(40)}`, 'x');
    writeFileSync(`${path}/empty`, '');
    makeSparse(`${path}/sparse`, 64 * MIB, [
      [MIB, 4096],
      [40 * MIB, MIB],
    ]);
    return sourceVolume(path);
  }

  it('clones the files of an archive: names, modes, times, links and holes; FIFOs and devices are left out', async () => {
    const volume = makeTree();
    execFileSync('mkfifo', [`${volume.path}/fifo`]);
    if (USER) execFileSync('mknod', [`${volume.path}/disk`, 'b', '7', '0']);
    const { url } = await serve(volume, { contentType: 'archive' });
    const made = await reserveRemote(volume, url, 16 * MIB, 'archive');
    const result = await made.start().done;
    const at = (name: string): string => `${made.volume}/${name}`;
    assert.deepEqual(readdirSync(made.volume).sort(), ['a', 'empty', 'long-'.repeat(40), 'sparse']);
    assert.equal(readFileSync(at('a/b/file'), 'utf8'), 'content');
    const { mode, mtimeMs, ino, nlink } = statSync(at('a/b/file'));
    assert.deepEqual([mode & 0o7777, Math.round(mtimeMs), nlink], [0o640, 1_000_000_000_000, 2]);
    assert.equal(statSync(at('a/twin')).ino, ino);
    assert.equal(readlinkSync(at('a/link')), 'b/file');
    assert.equal(sha256(at('sparse')), sha256(`${volume.path}/sparse`));
    assert.ok(allocated(at('sparse')) <= 2 * MIB, `${allocated(at('sparse'))} bytes are allocated`);
    assert.equal(result.format, 'tar');
    await using root = await open(volume.path);
    assert.equal((await measureTree(root)).leftOut, USER ? 2 : 1);
  });

  it('follows no link out of an archive, and refuses a file that has a name outside of it', async () => {
    const volume = makeTree();
    const secret = `${directory()}/secret-${randomUUID()}`;
    writeFileSync(secret, 'secret');
    const { url } = await serve(volume, { contentType: 'archive' });
    symlinkSync(secret, `${volume.path}/out`);
    const first = await reserveRemote(volume, url, 16 * MIB, 'archive');
    await assert.rejects(first.start().done, refusal('ImageHostile', /out/, true));
    assert.ok(!lstatSync(`${first.volume}/out`, { throwIfNoEntry: false }));
    rmSync(`${volume.path}/out`);
    linkSync(secret, `${volume.path}/hard`);
    const second = await reserveRemote(volume, url, 16 * MIB, 'archive');
    await assert.rejects(
      second.start().done,
      refusal('ImageHostile', /'hard' has 2 links, 1 of them in the volume/, true),
    );
    await using root = await open(volume.path);
    await assert.rejects(measureTree(root), refusal('ImageHostile', /'hard' has 2 links/, true));
  });

  it('starts an archive over when its port went away', async () => {
    const volume = makeTree();
    makePatterned(`${volume.path}/big`, 128);
    const { url, stop } = await serve(volume, { contentType: 'archive' });
    const made = await reserveRemote(volume, url, 256 * MIB, 'archive');
    await stop();
    await assert.rejects(made.start().done, refusal('SourceUnavailable', /is not open on this node/, false));
    const again = await serve(volume, { contentType: 'archive' });
    Object.assign(made.input, { clone: { volume, method: 'network', generation: 1, url: again.url } });
    await made.start(2).done;
    assert.equal(sha256(`${made.volume}/big`), sha256(`${volume.path}/big`));
    renameSync(`${volume.path}/big`, `${volume.path}/moved`);
  });
});
