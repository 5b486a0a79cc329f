import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { packTree } from '../../../activities/image/clone/pack-tree.js';
import { createRemoteVolume } from '../../../activities/image/clone/remote-volume.js';
import { servedUrl } from '../../../activities/image/clone/volume-protocol.js';
import { createVolumeSource } from '../../../activities/image/clone/volume-source.js';
import { dataPortClientOptions } from '../../../activities/data-port/tls.js';
import type { SourceVolume } from '../../../activities/types/clone.js';
import { makeSource, reserveClone, sourceVolume } from '../support/clone.js';
import { makePatterned, MIB, sha256, useDirectory } from '../support/images.js';
import { readDevice, useLoopDevices } from '../support/loop-device.js';
import { refusal } from '../support/refused.js';
import { useServedVolumes } from '../support/served.js';

describe('a source that is written to', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  const loops = useLoopDevices({ optional: true });
  const volumes = useServedVolumes(directory);
  const { serve, reserveRemote } = volumes;

  function makeTree(content: string): SourceVolume {
    const path = `${directory()}/pvc-${randomUUID()}`;
    mkdirSync(`${path}/a`, { recursive: true });
    writeFileSync(`${path}/a/file`, content);
    return sourceVolume(path);
  }

  /** Writes to a device as a pod does: by a device node of its own, whose times no other one has. */
  function writeAsPod(device: string, args: readonly string[]): void {
    const node = `${directory()}/node-${randomUUID()}`;
    const { rdev } = statSync(device);
    execFileSync('mknod', [node, 'b', `${rdev >> 8}`, `${rdev & 0xff}`]);
    execFileSync('dd', [`of=${node}`, 'bs=1M', 'conv=notrunc', ...args], { stdio: 'ignore' });
  }

  it('is read anew by each generation of a clone of files, and not twice by one', async () => {
    const volume = makeTree('torn');
    const first = await serve(volume, { contentType: 'archive' });
    const made = await reserveRemote(volume, first.url, 16 * MIB, 'archive');
    const file = `${made.volume}/a/file`;
    const done = await made.start().done;
    const { ctimeNs } = statSync(file, { bigint: true });
    // the worker ended before it could say that it was done
    assert.deepEqual(await made.start(2).done, { ...done, attempts: 2 });
    assert.equal(statSync(file, { bigint: true }).ctimeNs, ctimeNs);
    writeFileSync(`${volume.path}/a/file`, 'last');
    const second = await serve(volume, { contentType: 'archive', uid: first.uid, generation: 2 });
    const clone = { volume, method: 'network', url: second.url } as const;
    Object.assign(made.input, { clone: { ...clone, generation: 2 } });
    await made.start(3).done;
    assert.equal(readFileSync(file, 'utf8'), 'last');
    await serve(volume, { contentType: 'archive', uid: first.uid, generation: 3 });
    const before = statSync(file, { bigint: true }).ctimeNs;
    Object.assign(made.input, { clone: { ...clone, generation: 3 } });
    await made.start(4).done;
    assert.notEqual(statSync(file, { bigint: true }).ctimeNs, before, 'its state counts for one generation');
  });

  for (const method of ['copy', 'network'] as const)
    it(`is read anew by each generation of a clone of a disk (${method}), and by nobody who serves another one`, async () => {
      const { volume, disk: source } = makeSource(directory(), (path) => void makePatterned(path, 8));
      const { url, uid, stop } = await serve(volume);
      const remote = method === 'network';
      const made = remote
        ? await reserveRemote(volume, url, 8 * MIB)
        : await reserveClone(directory(), { volume }, { usableBytes: 8 * MIB });
      await made.start().done;
      const { mtimeNs } = statSync(made.disk, { bigint: true });
      Object.assign(made.input, { clone: { volume, method, generation: 2, ...(remote ? { url } : {}) } });
      if (remote) {
        await assert.rejects(made.start(2).done, refusal('SourceUnavailable', /answered 503/, false));
        await serve(volume, { uid, generation: 2 });
      }
      await stop();
      await made.start(3).done;
      assert.notEqual(statSync(made.disk, { bigint: true }).mtimeNs, mtimeNs);
      assert.equal(sha256(made.disk), sha256(source));
    });

  it('is told by its device, whoever writes, and leaves nothing of what it was', async function () {
    if (!loops.available) return this.skip();
    const backing = `${directory()}/written.backing`;
    const device = loops.make(backing, 24 * MIB, { dirty: false });
    writeAsPod(device, ['if=/dev/urandom', 'seek=3', 'count=5', 'conv=notrunc,fsync']);
    const fd = openSync(device, 'r');
    const open = () =>
      createVolumeSource({ fd, name: 'pv', generation: 1 }, { signal: new AbortController().signal });
    const etag = async () => (await open().probe()).validators.etag;
    const before = await etag();
    assert.equal(await etag(), before, 'reading is no change');
    const source = open();
    await source.probe();
    await source.settle?.();
    const volume = sourceVolume(device, { volumeMode: 'Block' });
    const made = await reserveClone(directory(), { volume }, { usableBytes: 24 * MIB });
    await made.start().done;
    // what is in memory only counts too
    writeAsPod(device, ['if=/dev/zero', 'seek=3', 'count=5']);
    await assert.rejects(
      async () => await source.settle?.(),
      refusal('SourceChanged', /was written to/, false),
    );
    assert.notEqual(await etag(), before);
    await made.start(2).done;
    assert.ok(readFileSync(made.disk).equals(readDevice(backing, device)));
    assert.ok(readFileSync(made.disk).every((byte) => byte === 0));
  });

  it('is told when all was read over the network', async () => {
    for (const [change, failure] of [
      [(path: string) => writeFileSync(path, 'B', { flag: 'a' }), refusal('SourceChanged', /changed/, false)],
      [(path: string) => rmSync(path), refusal('SourceNotFound', /was removed/, true)],
    ] as const) {
      const { volume, disk } = makeSource(directory(), (path) => void makePatterned(path, 1));
      const { url } = await serve(volume);
      const tls = dataPortClientOptions(volumes.loopback.tls('dvflow-node'));
      const { signal } = new AbortController();
      const source = createRemoteVolume({ name: 'pv', url: servedUrl(url, 1), tls }, { signal });
      await source.settle?.();
      change(disk);
      await assert.rejects(async () => await source.settle?.(), failure);
      source.close();
    }
  });

  const NAMES = ['a', 'b', 'inner/c'];
  const write = (path: string): void => writeFileSync(path, 'B', { flag: 'a' });
  for (const [what, change] of [
    ['the file that is read', (path: string) => NAMES.forEach((name) => write(`${path}/${name}`))],
    ['one of the files', (path: string) => write(`${path}/a`)],
    ['a directory', (path: string) => write(`${path}/inner/new`)],
    ['the root', (path: string) => write(`${path}/new`)],
  ] as const)
    it(`is noticed while its files are packed: ${what}`, async () => {
      const path = `${directory()}/tree-${randomUUID()}`;
      mkdirSync(`${path}/inner`, { recursive: true });
      for (const name of NAMES) writeFileSync(`${path}/${name}`, 'A'.repeat(4 * MIB));
      const fd = openSync(path, 'r');
      const pack = async (): Promise<void> => {
        let whole = 0;
        for await (const chunk of packTree({ fd }, { count: 0 }, new AbortController().signal)) {
          if (chunk.length === MIB) whole += 1;
          // two of the files were read
          if (chunk.length === MIB && whole === 10) change(path);
        }
      };
      await assert.rejects(pack, refusal('SourceChanged', /source changed: .* (was|were) written to/, false));
    });

  it('makes a clone of files start over, and fails it at the third change', async () => {
    const volume = makeTree('x');
    makePatterned(`${volume.path}/big`, 64);
    const { url } = await serve(volume, { contentType: 'archive' });
    const made = await reserveRemote(volume, url, 256 * MIB, 'archive');
    for (const attempt of [1, 2, 3]) {
      const writing = setInterval(() => writeFileSync(`${volume.path}/a/file`, `${attempt}`), 5);
      const failed = assert.rejects(
        made.start(attempt).done,
        refusal('SourceChanged', attempt === 3 ? /changed 3 times/ : /source changed/, attempt === 3),
      );
      await failed.finally(() => clearInterval(writing));
    }
  });
});
