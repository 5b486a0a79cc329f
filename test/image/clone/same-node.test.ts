import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { MockActivityEnvironment } from '@temporalio/testing';
import { createNodeActivities } from '../../../activities/node/index.js';
import {
  allocated,
  makeSource,
  makeSparse,
  reserveClone,
  sharedBytes,
  sourceVolume,
  traceOf,
  tryFileSystem,
} from '../support/clone.js';
import { makePatterned, MIB, sha256, useDirectory } from '../support/images.js';
import { readDevice, useLoopDevices } from '../support/loop-device.js';
import { refusal } from '../support/refused.js';
import { USER, whileStopped } from '../support/transfer.js';

const KIB = 1024;
const node = createNodeActivities({ node: 'here', transferUser: USER });

describe('a clone on one node', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  const loops = useLoopDevices({ optional: true });

  it('copies what holds data, leaves holes, and reads without a trace', async () => {
    const { volume, disk: source } = makeSource(directory(), (path) =>
      makeSparse(path, 256 * MIB, [
        [0, 300 * KIB],
        [100 * MIB + 4096, 5 * MIB],
        [255 * MIB, MIB],
      ]),
    );
    const before = traceOf(source);
    const { disk, start, input } = await reserveClone(directory(), { volume }, { usableBytes: 300 * MIB });
    const result = await start().done;
    assert.equal(traceOf(source), before);
    assert.equal(statSync(disk).size, 300 * MIB);
    assert.equal(result.virtualSize, 256 * MIB);
    execFileSync('cmp', ['--bytes', `${256 * MIB}`, source, disk]);
    assert.ok(allocated(disk) <= allocated(source) + MIB, `${allocated(disk)} of ${allocated(source)} bytes`);
    assert.ok(result.bytesTransferred < 8 * MIB, `${result.bytesTransferred} bytes were read`);
    await node.verifyImage({ directory: input.target, transferred: result });
  });

  it('is done once: the second time nothing is copied, unless the source has changed', async () => {
    const { volume, disk: source } = makeSource(directory(), (path) => void makePatterned(path, 8));
    const { disk, start } = await reserveClone(directory(), { volume }, { usableBytes: 8 * MIB });
    const first = await start().done;
    const { ino, mtimeMs } = statSync(disk);
    assert.deepEqual(await start(2).done, { ...first, attempts: 2 });
    assert.deepEqual([statSync(disk).ino, statSync(disk).mtimeMs], [ino, mtimeMs]);
    writeFileSync(source, Buffer.alloc(8 * MIB, 'other'));
    await start(3).done;
    assert.equal(sha256(disk), sha256(source));
  });

  it('takes a disk as it is, even if a guest wrote the magic number of a compressor or a qcow2 to it', async () => {
    for (const magic of [Buffer.from([0x1f, 0x8b, 8, 0]), Buffer.from('QFI\xfb\0\0\0\x03', 'latin1')]) {
      const { volume, disk: source } = makeSource(directory(), (path) => {
        makePatterned(path, 4);
        const content = readFileSync(path);
        magic.copy(content);
        writeFileSync(path, content);
      });
      const { disk, start } = await reserveClone(directory(), { volume }, { usableBytes: 4 * MIB });
      await start().done;
      assert.equal(sha256(disk), sha256(source));
    }
  });

  it('goes on where a killed process was', async () => {
    const { volume, disk: source } = makeSource(directory(), (path) => void makePatterned(path, 512));
    const { disk, start, record, state } = await reserveClone(
      directory(),
      { volume },
      { usableBytes: 512 * MIB },
    );
    const completed = (): number =>
      existsSync(`${state}/record.json`) ? (record().durable?.completed ?? 0) : 0;
    const attempt = start();
    await whileStopped(
      attempt,
      disk,
      () => completed() > 0,
      (movers) => movers.forEach((pid) => process.kill(pid, 'SIGKILL')),
    );
    await assert.rejects(attempt.done, refusal('NodeUnavailable', /was killed/, false));
    const durable = completed();
    const result = await start(2).done;
    assert.equal(result.resumedFrom, durable);
    assert.ok(durable > 0 && result.resumedFrom < 512 * MIB);
    execFileSync('cmp', [source, disk]);
    rmSync(source);
  });

  it('notices that the source is written to, and says so', async () => {
    const { volume, disk: source } = makeSource(directory(), (path) => void makePatterned(path, 512));
    const { disk, start } = await reserveClone(directory(), { volume }, { usableBytes: 512 * MIB });
    const touched = readFileSync(source).subarray(0, 4096);
    const attempt = start();
    await whileStopped(
      attempt,
      disk,
      () => allocated(disk) > 0,
      () =>
        execFileSync('dd', [`of=${source}`, 'conv=notrunc', 'bs=4096', 'count=1'], {
          input: touched,
          stdio: ['pipe', 'ignore', 'ignore'],
        }),
    );
    await assert.rejects(attempt.done, refusal('SourceChanged', /was written to while it was cloned/, false));
    rmSync(source);
  });

  it('fails for good when the source is removed', async () => {
    const { volume, disk: source } = makeSource(directory(), (path) => void makePatterned(path, 512));
    const { disk, start } = await reserveClone(directory(), { volume }, { usableBytes: 512 * MIB });
    const attempt = start();
    await whileStopped(
      attempt,
      disk,
      () => allocated(disk) > 0,
      () => rmSync(source),
    );
    await assert.rejects(attempt.done, refusal('SourceNotFound', /was removed while it was cloned/, true));
    await assert.rejects(start(2).done, refusal('SourceNotFound', /holds no disk/, true));
  });

  it('refuses a disk that is larger than the target, with both figures', async () => {
    const { volume } = makeSource(directory(), (path) => void makePatterned(path, 8));
    const { start } = await reserveClone(directory(), { volume }, { usableBytes: 4 * MIB });
    await assert.rejects(start().done, refusal('LargerPVCRequired', /8388608.* 4194304/, true));
  });

  for (const type of ['xfs', 'btrfs'] as const) {
    it(`shares blocks on ${type}, and the two are disks of their own`, async function () {
      using mounted = tryFileSystem(directory(), type, 512);
      if (!mounted) return this.skip();
      const { volume, disk: source } = makeSource(mounted.path, (path) =>
        makeSparse(path, 200 * MIB, [[MIB, 64 * MIB]]),
      );
      const made = await reserveClone(
        mounted.path,
        { volume, method: 'reflink' },
        { usableBytes: 300 * MIB },
      );
      const { target } = made.input;
      const chosen = await node.chooseCloneMethod({
        volume,
        target,
        contentType: 'kubevirt',
        preallocation: false,
      });
      assert.equal(chosen.method, 'reflink');
      assert.equal(chosen.fallback, undefined);
      const before = traceOf(source);
      const result = await made.start().done;
      assert.equal(traceOf(source), before);
      assert.deepEqual(
        [result.virtualSize, result.diskBytes, result.bytesTransferred],
        [200 * MIB, 300 * MIB, 0],
      );
      execFileSync('cmp', ['--bytes', `${200 * MIB}`, source, made.disk]);
      assert.ok(sharedBytes(made.disk) >= 64 * MIB, `${sharedBytes(made.disk)} bytes are shared`);
      await node.verifyImage({ directory: target, transferred: result });
      const content = sha256(source);
      execFileSync('dd', ['if=/dev/zero', `of=${made.disk}`, 'bs=1M', 'count=70', 'conv=notrunc'], {
        stdio: 'ignore',
      });
      assert.equal(sha256(source), content);
    });
  }

  it('shares no block of a preallocated disk, which keeps its own', async function () {
    using mounted = tryFileSystem(directory(), 'xfs', 512);
    if (!mounted) return this.skip();
    const { volume, disk: source } = makeSource(mounted.path, (path) =>
      makeSparse(path, 64 * MIB, [[MIB, 16 * MIB]]),
    );
    const made = await reserveClone(mounted.path, { volume }, { usableBytes: 64 * MIB });
    Object.assign(made.input, { preallocation: true });
    await made.start().done;
    execFileSync('cmp', [source, made.disk]);
    assert.equal(sharedBytes(made.disk), 0);
    assert.ok(allocated(made.disk) >= 64 * MIB, `${allocated(made.disk)} bytes are allocated`);
  });

  it('says why blocks are not shared: file system, preallocation, devices', async function () {
    const { volume } = makeSource(directory(), (path) => void makePatterned(path, 1));
    const { input } = await reserveClone(directory(), { volume }, { usableBytes: 2 * MIB });
    const choose = async (more: object = {}) =>
      await node.chooseCloneMethod({
        volume,
        target: input.target,
        contentType: 'kubevirt',
        preallocation: false,
        ...more,
      });
    using mounted = tryFileSystem(directory(), 'ext4', 64);
    if (mounted) {
      const other = makeSource(mounted.path, (path) => void makePatterned(path, 1));
      assert.match(
        (await choose({ volume: other.volume })).reason,
        /different file systems|cannot share blocks/,
      );
    }
    assert.match((await choose({ preallocation: true })).fallback ?? '', /^NoReflink: preallocation/);
    const device = { ...volume, volumeMode: 'Block' } as const;
    assert.match((await choose({ volume: device })).fallback ?? '', /^IncompatibleVolumeModes: /);
  });

  it('copies from a device to a file and from a file to a device, zeros and all', async function () {
    if (!loops.available) return this.skip();
    const backing = `${directory()}/source.backing`;
    const device = loops.make(backing, 24 * MIB, { dirty: false });
    execFileSync('dd', ['if=/dev/urandom', `of=${device}`, 'bs=1M', 'seek=3', 'count=5', 'conv=fsync'], {
      stdio: 'ignore',
    });
    const volume = sourceVolume(device, { volumeMode: 'Block' });
    const file = await reserveClone(directory(), { volume }, { usableBytes: 30 * MIB });
    assert.deepEqual(await node.measureOrigin({ volume, contentType: 'kubevirt' }), {
      bytes: 24 * MIB,
      allocatedBytes: 24 * MIB,
    });
    const result = await file.start().done;
    assert.equal(result.virtualSize, 24 * MIB);
    assert.deepEqual(readFileSync(file.disk).subarray(0, 24 * MIB), readDevice(backing, device));
    assert.ok(allocated(file.disk) <= 6 * MIB, `${allocated(file.disk)} bytes are allocated`);
  });
});

describe('the disk of a source volume', function () {
  this.timeout(30_000);
  const directory = useDirectory();
  const measure = async (path: string): Promise<unknown> =>
    await node.measureOrigin({ volume: sourceVolume(path), contentType: 'kubevirt' });

  it('is measured: what it is for the guest, and what it occupies', async () => {
    const { volume, disk } = makeSource(directory(), (path) => makeSparse(path, 50 * MIB, [[0, 2 * MIB]]));
    assert.deepEqual(await node.measureOrigin({ volume, contentType: 'kubevirt' }), {
      bytes: 50 * MIB,
      allocatedBytes: allocated(disk),
    });
  });

  for (const [what, make, wrong] of [
    [
      'a symbolic link',
      (disk: string) => execFileSync('ln', ['-s', '/etc/shadow', disk]),
      /is a symbolic link/,
    ],
    [
      'a link to a device',
      (disk: string) => execFileSync('ln', ['-s', '/dev/vda', disk]),
      /is a symbolic link/,
    ],
    [
      'one more name of a file that lies elsewhere',
      (disk: string) => {
        writeFileSync(`${disk}.secret`, 'secret');
        execFileSync('ln', [`${disk}.secret`, disk]);
      },
      /has 2 links, expected 1/,
    ],
    ['a FIFO', (disk: string) => execFileSync('mkfifo', [disk]), /is not a regular file/],
    ['a directory', (disk: string) => execFileSync('mkdir', [disk]), /is not a regular file/],
    [
      'a device',
      (disk: string) => {
        if (USER) execFileSync('mknod', [disk, 'b', '7', '0']);
        else execFileSync('mkfifo', [disk]);
      },
      /is not a regular file/,
    ],
  ] as const) {
    it(`is refused where ${what} bears its name`, async () => {
      const { volume, disk } = makeSource(directory(), make);
      await assert.rejects(measure(volume.path), refusal('ImageHostile', wrong, true));
      const { start } = await reserveClone(directory(), { volume }, { usableBytes: MIB });
      await assert.rejects(start().done, refusal('ImageHostile', wrong, true));
      assert.ok(!existsSync(`${disk}.copy`));
    });
  }

  it('is missed for good where the volume holds none, or was removed from its pool; for now where its pool is away', async () => {
    const { volume, disk } = makeSource(directory(), (path) => writeFileSync(path, 'x'));
    rmSync(disk);
    await assert.rejects(measure(volume.path), refusal('SourceNotFound', /holds no disk/, true));
    rmSync(volume.path, { recursive: true });
    await assert.rejects(measure(volume.path), refusal('NodeUnavailable', /does not exist/, false));
    execFileSync('mkdir', [`${directory()}/.dvflow`]);
    await assert.rejects(measure(volume.path), refusal('SourceNotFound', /was removed/, true));
    rmSync(`${directory()}/.dvflow`, { recursive: true });
  });

  it('stops measuring the files of an archive when it is cancelled', async () => {
    const path = `${directory()}/pvc-${randomUUID()}`;
    mkdirSync(path);
    for (let index = 0; index < 3000; index += 1) writeFileSync(`${path}/${index}`, '');
    const environment = new MockActivityEnvironment();
    const measured = environment.run(() =>
      node.measureOrigin({ volume: sourceVolume(path), contentType: 'archive' }),
    );
    environment.cancel();
    await assert.rejects(measured, (error: Error) => error.name === 'CancelledFailure');
  });

  it('is one state: a disk that became shorter is another one', async () => {
    const { volume, disk: source } = makeSource(directory(), (path) => void makePatterned(path, 64));
    const { disk, start } = await reserveClone(directory(), { volume }, { usableBytes: 80 * MIB });
    await start().done;
    truncateSync(source, 32 * MIB);
    appendFileSync(source, Buffer.alloc(MIB, 'end'));
    const again = await start(2).done;
    assert.equal(again.virtualSize, 33 * MIB);
    execFileSync('cmp', ['--bytes', `${33 * MIB}`, source, disk]);
    assert.ok(
      readFileSync(disk)
        .subarray(33 * MIB)
        .every((byte) => byte === 0),
    );
  });
});
