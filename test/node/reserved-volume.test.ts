import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { MockActivityEnvironment } from '@temporalio/testing';
import { createTransferActivities } from '../../activities/image/transfer.js';
import type { ReservedVolume } from '../../activities/types/local-volumes.js';
import { createNodeActivities } from '../../activities/node/index.js';
import { openTreeToUndo, openVolumeTree } from '../../activities/node/volume-path.js';
import type { ImageFacts, TransferInput } from '../../activities/types.js';
import { makeRaw, MIB, qemuImg, useDirectory } from '../image/support/images.js';
import { readDevice, useLoopDevices, type LoopOptions } from '../image/support/loop-device.js';
import { refusal } from '../image/support/refused.js';
import { serveFile } from '../image/support/serve.js';
import { moversOf, startAttempt, until, USER } from '../image/support/transfer.js';
import { holdMount } from '../support/mounts.js';
import { openPaths } from '../support/open-files.js';
import { tryMount } from './support.js';

const DEVICE = 48 * MIB;

/** A static volume that is reserved for a DataVolume, and what fills it. */
function reserve(
  root: string,
  path: string,
  {
    stateDirectory = `${root}/state-${randomUUID()}`,
    ...more
  }: Partial<ReservedVolume> & { readonly stateDirectory?: string } = {},
  contentType?: 'archive',
) {
  const { dataVolume = { namespace: 'team-a', name: 'vm1', uid: randomUUID() } } = more;
  const claim = { namespace: 'team-a', name: 'vm1', uid: randomUUID() };
  const volume: ReservedVolume = {
    node: 'here',
    hostname: 'here',
    dataVolume,
    volume: 'pv1',
    volumeUid: randomUUID(),
    storageClass: 'local',
    volumeMode: 'Block',
    path,
    capacityBytes: DEVICE,
    ...more,
  };
  const node = createNodeActivities({ node: 'here', transferUser: USER, stateDirectory });
  return {
    volume,
    node,
    /** For another volume, or the same one at another time. */
    again: (to: string, other: Partial<ReservedVolume> = {}) =>
      reserve(root, to, { ...more, stateDirectory, dataVolume, ...other }, contentType),
    state: `${stateDirectory}/transfers/${dataVolume.uid}`,
    prepare: (requestBytes = 32 * MIB) =>
      node.prepareVolume({ volume, claim, requestBytes, archive: contentType === 'archive' }),
    transfer: (url: string, attempt = 1) => {
      const transfers = createTransferActivities({
        readRequest: async () => ({
          kind: 'http',
          url,
          headers: [],
          secretHeaders: [],
          insecureSkipVerify: false,
        }),
        policy: { allowed: ['127.0.0.0/8'], denied: [] },
        transferUser: USER,
        stateDirectory,
      });
      const input: TransferInput = {
        target: volume,
        claim,
        usableBytes: 32 * MIB,
        preallocation: false,
        image: {} as ImageFacts,
        ...(contentType ? { contentType } : {}),
      };
      return startAttempt(transfers, input, { attempt });
    },
    empty: async (reservedAt = volume.reservedAt) => {
      const environment = new MockActivityEnvironment();
      const asked = { ...volume, ...(reservedAt === undefined ? {} : { reservedAt }) };
      await environment.run(() => node.emptyReservedVolume({ volume: asked }));
    },
  };
}

describe('a reserved block device', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  const devices = useLoopDevices();
  let raw: string;

  before(() => {
    raw = `${directory()}/disk.raw`;
    makeRaw(raw, 16 * MIB);
    execFileSync('truncate', ['--size', `${32 * MIB}`, raw]);
  });
  const make = (name: string, options: LoopOptions = {}) => {
    const backing = `${directory()}/${name}`;
    return { backing, device: devices.make(backing, DEVICE, options) };
  };
  const image = (format: 'raw' | 'qcow2' | 'gz' | 'xz'): string => {
    const path = `${directory()}/disk.${format}`;
    if (format === 'qcow2') qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, path);
    if (format === 'gz') execFileSync('sh', ['-c', `gzip -1 -c ${raw} > ${path}`]);
    if (format === 'xz') execFileSync('sh', ['-c', `xz -1 -c ${raw} > ${path}`]);
    return path;
  };

  for (const format of ['qcow2', 'raw', 'gz', 'xz'] as const) {
    it(`holds the disk from offset 0 and zeros after it, of a ${format}, by a process that is not root`, async () => {
      await using server = await serveFile(image(format));
      const { device, backing } = make(`block-${format}`);
      const { node, prepare, transfer, volume, state } = reserve(directory(), device);
      await prepare();
      const transferred = await transfer(server.url).done;
      await node.verifyImage({ directory: volume, transferred });
      qemuImg('compare', '-f', 'raw', '-F', 'raw', raw, device);
      assert.ok(
        readDevice(backing, device)
          .subarray(32 * MIB)
          .every((byte) => byte === 0),
        'old data shines through',
      );
      await node.publishDirectory({ directory: volume });
      assert.ok(!existsSync(state));
      await assert.rejects(
        transfer(server.url, 2).done,
        refusal('ResourceExists', /is published or was not prepared/),
      );
    });
  }

  it('reads as zeros after a transfer that was killed and given up, and is what it was if none had begun', async () => {
    await using server = await serveFile(image('raw'));
    server.rate = 2 * MIB;
    const { device, backing } = make('given-up');
    const { prepare, transfer, empty, state } = reserve(directory(), device);
    await prepare();
    await empty();
    assert.ok(
      readDevice(backing, device).every((byte) => byte === 0xaa),
      'nothing was to be changed',
    );
    await prepare();
    const attempt = transfer(server.url);
    await until(
      attempt.done,
      () => moversOf(device).length > 0 && attempt.beats.some(({ bytesWritten }) => bytesWritten > MIB),
    );
    for (const pid of moversOf(device)) process.kill(pid, 'SIGKILL');
    await assert.rejects(attempt.done, refusal('NodeUnavailable', /was killed/, false));
    for (const _ of [1, 2]) await empty();
    assert.ok(
      readDevice(backing, device).every((byte) => byte === 0),
      'what was written shines through',
    );
    assert.ok(!existsSync(state));
  });

  it('goes on after a kill, and starts over on another device under the same path', async () => {
    await using server = await serveFile(image('qcow2'));
    const { device } = make('resumed');
    const link = `${directory()}/link-${randomUUID()}`;
    symlinkSync(device, link);
    const { node, prepare, transfer, volume } = reserve(directory(), link);
    await prepare();
    const first = await transfer(server.url).done;
    // all is done: a repeated attempt reads nothing
    assert.deepEqual({ ...(await transfer(server.url, 2).done), attempts: 1 }, first);
    const other = make('another');
    execFileSync('ln', ['--symbolic', '--force', '--no-dereference', other.device, link]);
    await assert.rejects(
      node.verifyImage({ directory: volume, transferred: first }),
      refusal('ImageInvalid', /another, the transfer wrote to loop .*resumed/),
    );
    const transferred = await transfer(server.url, 3).done;
    await node.verifyImage({ directory: volume, transferred });
    qemuImg('compare', '-f', 'raw', '-F', 'raw', raw, other.device);
  });

  it('is not written again when its file is attached again, and starts over on a file made anew in its place', async () => {
    await using server = await serveFile(image('qcow2'));
    const { device, backing } = make('again', { ownNumber: true });
    const { node, prepare, transfer, volume } = reserve(directory(), device);
    await prepare();
    const first = await transfer(server.url).done;
    execFileSync('losetup', ['--detach', device]);
    await devices.attach(device, backing);
    await prepare();
    assert.deepEqual({ ...(await transfer(server.url, 2).done), attempts: 1 }, first);
    execFileSync('losetup', ['--detach', device]);
    rmSync(backing);
    writeFileSync(backing, Buffer.alloc(DEVICE, 0xbb));
    await devices.attach(device, backing);
    const transferred = await transfer(server.url, 3).done;
    await node.verifyImage({ directory: volume, transferred });
    qemuImg('compare', '-f', 'raw', '-F', 'raw', raw, device);
  });

  it('is not emptied for a run whose retry has prepared it since', async () => {
    await using server = await serveFile(image('raw'));
    const { device, backing } = make('taken-over');
    const reservedAt = '2026-01-02T00:00:00.000Z';
    const { prepare, transfer, empty, state } = reserve(directory(), device, { reservedAt });
    await prepare();
    await transfer(server.url).done;
    await empty('2026-01-01T00:00:00.000Z');
    qemuImg('compare', '-f', 'raw', '-F', 'raw', raw, device);
    assert.ok(existsSync(state));
    await empty();
    assert.ok(readDevice(backing, device).every((byte) => byte === 0));
  });

  it('is begun anew by a retry after an emptying that ended half-way', async () => {
    await using server = await serveFile(image('raw'));
    const { device } = make('half-emptied');
    const { prepare, transfer, empty, state } = reserve(directory(), device);
    await prepare();
    await transfer(server.url).done;
    const holder = execFileSync('losetup', ['--find', '--show', device], { encoding: 'utf8' }).trim();
    await assert.rejects(empty(), (error) => error instanceof Error);
    execFileSync('losetup', ['--detach', holder]);
    assert.ok(existsSync(state));
    assert.ok(!existsSync(`${state}/record.json`), 'nothing counts as durable any more');
  });

  it('is not emptied where its path leads to another device, whose bytes are somebody’s', async () => {
    await using server = await serveFile(image('raw'));
    const { device, backing } = make('written');
    const link = `${directory()}/link-${randomUUID()}`;
    symlinkSync(device, link);
    const { prepare, transfer, empty, state } = reserve(directory(), link);
    await prepare();
    await transfer(server.url).done;
    const other = make('foreign');
    execFileSync('ln', ['--symbolic', '--force', '--no-dereference', other.device, link]);
    await assert.rejects(
      empty(),
      refusal(
        'ResourceExists',
        /is loop .*foreign now, and the transfer wrote to loop .*written: it is not emptied/,
      ),
    );
    assert.ok(
      readDevice(other.backing, other.device).every((byte) => byte === 0xaa),
      'the other device holds what it held',
    );
    assert.ok(existsSync(state), 'what was written is not forgotten');
    execFileSync('ln', ['--symbolic', '--force', '--no-dereference', device, link]);
    await empty();
    assert.ok(readDevice(backing, device).every((byte) => byte === 0));
    assert.ok(!existsSync(state));
  });

  it('is refused where it is used, too small, read-only, or no device', async () => {
    const { device } = make('used');
    const above = execFileSync('losetup', ['--find', '--show', device], { encoding: 'utf8' }).trim();
    try {
      await assert.rejects(
        reserve(directory(), device).prepare(),
        refusal('ResourceExists', /as for a pod that uses it/),
      );
    } finally {
      execFileSync('losetup', ['--detach', above]);
    }
    execFileSync('mkfs.ext4', ['-q', device]);
    const place = `${directory()}/mounted`;
    mkdirSync(place);
    {
      await using _ = await holdMount(device, place);
      await assert.rejects(
        reserve(directory(), device).prepare(),
        refusal('ResourceExists', /it is mounted/),
      );
    }
    const small = refusal(
      'VolumeTooSmall',
      /has 50331648 bytes, PersistentVolume pv1 says 50331648, and claim team-a\/vm1 needs 52428800/,
    );
    await assert.rejects(reserve(directory(), device).prepare(50 * MIB), small);
    const readOnly = devices.make(`${directory()}/read-only`, DEVICE, { readOnly: true });
    await assert.rejects(reserve(directory(), readOnly).prepare(), refusal('NotAuthorized', /read-only/));
    await assert.rejects(
      reserve(directory(), raw).prepare(),
      refusal('IncompatiblePVC', /volumeMode Block, and its path .* is not a block device/),
    );
    const missing = reserve(directory(), `${directory()}/missing`).prepare();
    await assert.rejects(missing, refusal('NodeUnavailable', /does not exist \(ENOENT\)/, false));
  });
});

describe('a reserved directory', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  let raw: string;

  before(() => {
    raw = `${directory()}/disk.raw`;
    makeRaw(raw, 16 * MIB);
    execFileSync('truncate', ['--size', `${32 * MIB}`, raw]);
  });
  function make(): string {
    const path = `${directory()}/volume-${randomUUID()}`;
    mkdirSync(path);
    chmodSync(path, 0o750);
    return path;
  }
  const filesystem = { volumeMode: 'Filesystem' } as const;

  it('gets disk.img for qemu, in the place of whatever bears that name', async () => {
    await using server = await serveFile(raw);
    const path = make();
    const victim = `${directory()}/victim`;
    writeFileSync(victim, 'precious');
    symlinkSync(victim, `${path}/disk.img`);
    const { node, prepare, transfer, volume } = reserve(directory(), path, filesystem);
    await prepare();
    const transferred = await transfer(server.url).done;
    await node.verifyImage({ directory: volume, transferred });
    qemuImg('compare', '-f', 'raw', '-F', 'raw', raw, `${path}/disk.img`);
    assert.equal(readFileSync(victim, 'utf8'), 'precious');
    assert.deepEqual(readdirSync(path), ['disk.img']);
    if (USER) assert.deepEqual([statSync(path).uid, statSync(path).mode & 0o7777], [USER.uid, 0o771]);
  });

  /** A directory in an overlay, as the worker's own layer is one; `undefined` where this user may not mount. */
  function makeLayer() {
    const [path, lower, upper, work] = [make(), make(), make(), make()] as const;
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    const mount = tryMount(path, ['-t', 'overlay', 'overlay', '-o', options]);
    return mount && { path, [Symbol.dispose]: () => mount[Symbol.dispose]() };
  }

  it("is not opened to be filled in the worker's own layer, of which the node sees nothing; to be emptied it is", async function () {
    using layer = makeLayer();
    if (!layer) return this.skip();
    const volume = { volume: 'pv1', node: 'here', path: layer.path, ...filesystem };
    const unseen = refusal('NodeUnavailable', /sees no disk of the node at that path: mount it/, false);
    await assert.rejects(openVolumeTree(volume, layer.path), unseen);
    await (await openTreeToUndo(volume)).close();
  });

  it('is filled where the node is a container, of whose layer it is', async function () {
    using layer = makeLayer();
    if (!layer) return this.skip();
    await using server = await serveFile(raw);
    const { node, prepare, transfer, volume, empty } = reserve(directory(), layer.path, filesystem);
    await prepare();
    const transferred = await transfer(server.url).done;
    await node.verifyImage({ directory: volume, transferred });
    assert.deepEqual(readdirSync(layer.path), ['disk.img']);
    await empty();
    assert.deepEqual(readdirSync(layer.path), []);
  });

  it('is closed again where nothing tells in which layer it lies', async function () {
    using layer = makeLayer();
    if (!layer) return this.skip();
    const volume = { volume: 'pv1', node: 'here', path: layer.path, ...filesystem };
    const gone = refusal('NodeUnavailable', /of PersistentVolume pv1 on node here does not exist/, false);
    await assert.rejects(openVolumeTree(volume, `${layer.path}/nowhere`), gone);
    const open = openPaths();
    assert.ok(!open.some((path) => path.includes(layer.path)), open.join('\n'));
  });

  it('is what it was after a transfer was given up: permissions, and everything but the disk', async () => {
    await using server = await serveFile(raw);
    server.rate = 2 * MIB;
    const path = make();
    writeFileSync(`${path}/notes`, 'of somebody');
    const { prepare, transfer, empty } = reserve(directory(), path, filesystem);
    await prepare();
    const attempt = transfer(server.url);
    await until(attempt.done, () => attempt.beats.some(({ bytesWritten }) => bytesWritten > MIB));
    attempt.cancel();
    await assert.rejects(attempt.done);
    for (const _ of [1, 2]) await empty();
    assert.deepEqual(readdirSync(path), ['notes']);
    const { uid, mode } = statSync(path);
    assert.deepEqual([uid, mode & 0o7777], [process.getuid?.() ?? uid, 0o750]);
  });

  it('takes an archive only when nothing would be lost, and is empty when that is given up', async () => {
    const tar = `${directory()}/files.tar`;
    const files = `${directory()}/files`;
    mkdirSync(files);
    writeFileSync(`${files}/one`, 'of an archive');
    execFileSync('tar', ['-cf', tar, '-C', files, '.']);
    await using server = await serveFile(tar);
    const path = make();
    writeFileSync(`${path}/notes`, 'of somebody');
    const { node, prepare, transfer, empty, volume } = reserve(directory(), path, filesystem, 'archive');
    await assert.rejects(prepare(), refusal('ResourceExists', /is not empty: what it holds would be lost/));
    assert.equal(readFileSync(`${path}/notes`, 'utf8'), 'of somebody');
    execFileSync('rm', [`${path}/notes`]);
    await prepare();
    const transferred = await transfer(server.url).done;
    await node.verifyImage({ directory: volume, transferred, contentType: 'archive' });
    assert.deepEqual(readdirSync(path), ['one']);
    await prepare();
    await empty();
    assert.deepEqual(readdirSync(path), []);
  });

  it('says how it is emptied where an earlier upload into its Bound claim may have left an archive in it', async () => {
    await using server = await serveFile(makeTar());
    const path = make();
    const inPlace = { ...filesystem, volumeUid: randomUUID() };
    const first = reserve(directory(), path, { ...inPlace, tenure: 'run-1' }, 'archive');
    await first.prepare();
    await first.transfer(server.url).done;
    const second = first.again(path, { tenure: 'run-2' });
    const refused =
      /would be lost; where an earlier upload into this claim .* \(find .* -mindepth 1 -delete, on node here\)/;
    await assert.rejects(second.prepare(), refusal('ResourceExists', refused));
    execFileSync('find', [path, '-mindepth', '1', '-delete']);
    const third = first.again(path, { tenure: 'run-3' });
    await third.prepare();
    await third.empty();
    assert.equal(statSync(path).mode & 0o7777, 0o750, 'as before the first of them');
  });

  it('keeps the permissions of before all runs for the one that goes on last', async function () {
    if (process.getuid?.() !== 0) return this.skip();
    const path = make();
    const volume = { ...filesystem, volumeUid: randomUUID() };
    const first = reserve(directory(), path, { ...volume, tenure: 'run-1' });
    await first.prepare();
    await first.again(path, { tenure: 'run-2' }).prepare();
    const third = first.again(path, { tenure: 'run-3' });
    await third.prepare();
    await third.empty();
    assert.deepEqual([statSync(path).uid, statSync(path).mode & 0o7777], [0, 0o750]);
    // but not over those that an administrator gave it since
    await third.prepare();
    chownSync(path, 0, 0);
    chmodSync(path, 0o700);
    const fourth = first.again(path, { tenure: 'run-4' });
    await fourth.prepare();
    await fourth.empty();
    assert.equal(statSync(path).mode & 0o7777, 0o700);
  });

  for (const contentType of [undefined, 'archive'] as const) {
    it(`holds what somebody else has put there since, where its ${contentType ?? 'disk'} was lost to them and the DataVolume got another`, async () => {
      await using server = await serveFile(contentType ? makeTar() : raw);
      const [lost, got] = [make(), make()];
      const before = reserve(directory(), lost, filesystem, contentType);
      await before.prepare();
      await before.transfer(server.url).done;
      writeFileSync(`${lost}/disk.img`, 'of somebody');
      const { prepare, transfer, empty, state } = before.again(got);
      // as of a run that ends before it has prepared anything
      await empty();
      await prepare();
      assert.equal(readFileSync(`${lost}/disk.img`, 'utf8'), 'of somebody');
      await transfer(server.url).done;
      await empty();
      assert.deepEqual(readdirSync(got), []);
      assert.ok(!existsSync(state));
      assert.equal(readFileSync(`${lost}/disk.img`, 'utf8'), 'of somebody');
    });
  }

  it('is filled anew where the DataVolume had lost it and got it again, and not emptied for what was written before that', async () => {
    await using server = await serveFile(raw);
    const path = make();
    const tenure = '2026-01-01T00:00:00.000Z';
    const held = { ...filesystem, volumeUid: randomUUID(), reservedAt: tenure, tenure };
    const before = reserve(directory(), path, held);
    await before.prepare();
    await before.transfer(server.url).done;
    writeFileSync(`${path}/disk.img`, 'of somebody');
    const later = { reservedAt: '2026-01-02T00:00:00.000Z', tenure: '2026-01-02T00:00:00.000Z' };
    const { node, volume, prepare, transfer, empty } = before.again(path, later);
    await empty();
    assert.equal(readFileSync(`${path}/disk.img`, 'utf8'), 'of somebody');
    await prepare();
    await empty();
    assert.equal(
      readFileSync(`${path}/disk.img`, 'utf8'),
      'of somebody',
      'no transfer of this time has begun',
    );
    await prepare();
    const transferred = await transfer(server.url).done;
    await node.verifyImage({ directory: volume, transferred });
    qemuImg('compare', '-f', 'raw', '-F', 'raw', raw, `${path}/disk.img`);
  });

  it('goes on with what is there, and is emptied of it, for a retry that has taken it over without a gap', async () => {
    await using server = await serveFile(raw);
    const path = make();
    const tenure = '2026-01-01T00:00:00.000Z';
    const held = { ...filesystem, volumeUid: randomUUID(), reservedAt: tenure, tenure };
    const before = reserve(directory(), path, held);
    await before.prepare();
    const first = await before.transfer(server.url).done;
    const retry = before.again(path, { reservedAt: '2026-01-02T00:00:00.000Z' });
    await retry.prepare();
    assert.deepEqual({ ...(await retry.transfer(server.url, 2).done), attempts: 1 }, first);
    // one that ends before it has looked at the volume
    await before.again(path, { reservedAt: '2026-01-03T00:00:00.000Z' }).empty();
    assert.deepEqual(readdirSync(path), []);
  });

  describe('whose disk.img is another one when an attempt goes on', () => {
    const tenure = '2026-01-01T00:00:00.000Z';
    const held = { ...filesystem, reservedAt: tenure, tenure };
    const theirs = Buffer.alloc(32 * MIB, 0x55);

    /** A volume whose first attempt died over its transfer, with a record or without one. */
    async function die(volume: Partial<ReservedVolume> = held) {
      const server = await serveFile(raw);
      server.rate = 2 * MIB;
      const path = make();
      const reserved = reserve(directory(), path, volume);
      await reserved.prepare();
      const attempt = reserved.transfer(server.url);
      await until(attempt.done, () => attempt.beats.some(({ bytesWritten }) => bytesWritten > MIB));
      attempt.cancel();
      await assert.rejects(attempt.done);
      server.rate = Infinity;
      return { ...reserved, path, disk: `${path}/disk.img`, server };
    }
    /** As a tenant does who has the path by another PersistentVolume. */
    function replace(disk: string): void {
      // beside ours, so that no file system gives the same inode again
      writeFileSync(`${disk}.new`, theirs);
      renameSync(`${disk}.new`, disk);
    }

    for (const [what, forget] of [
      ['that has a record', () => undefined],
      ['whose record is lost', (state: string) => rmSync(`${state}/record.json`)],
    ] as const) {
      it(`is not written to by one ${what}, which fails for good, nor removed when that is undone`, async () => {
        const { server, disk, state, transfer, empty } = await die();
        await using _ = server;
        forget(state);
        replace(disk);
        const lost = refusal('ClaimLost', /does not hold the disk\.img any more that was being filled/);
        await assert.rejects(transfer(server.url, 2).done, lost);
        assert.ok(readFileSync(disk).equals(theirs), 'another tenant has lost data');
        await assert.rejects(empty(), refusal('ResourceExists', /another disk\.img than the transfer made/));
        assert.ok(readFileSync(disk).equals(theirs), 'another tenant has lost data');
      });
    }

    it('is not made anew where it is missing: whoever has the path may be about to make it', async () => {
      const { server, disk, path, transfer, empty } = await die();
      await using _ = server;
      rmSync(disk);
      const absent = refusal(
        'NodeUnavailable',
        /does not hold the disk\.img .* is its file system mounted/,
        false,
      );
      await assert.rejects(transfer(server.url, 2).done, absent);
      assert.deepEqual(readdirSync(path), []);
      await empty();
    });

    it('is left alone in a Bound claim too, whose upload fails and not its volume', async () => {
      const { server, disk, transfer } = await die(filesystem);
      await using _ = server;
      replace(disk);
      await assert.rejects(transfer(server.url, 2).done, refusal('ResourceExists', /removed or replaced/));
      assert.ok(readFileSync(disk).equals(theirs), 'another tenant has lost data');
    });

    it('is gone on with where it is ours, also after another look at the volume', async () => {
      const { server, disk, prepare, transfer } = await die();
      await using _ = server;
      const { ino } = statSync(disk);
      await prepare();
      await transfer(server.url, 2).done;
      assert.equal(statSync(disk).ino, ino);
      qemuImg('compare', '-f', 'raw', '-F', 'raw', raw, disk);
    });

    it('is known by its record alone where a worker of before made it, and by itself from then on', async () => {
      const { server, disk, state, transfer } = await die();
      await using _ = server;
      const marker = `${state}/reserved.json`;
      const read = (): Record<string, unknown> =>
        JSON.parse(readFileSync(marker, 'utf8')) as Record<string, unknown>;
      const { disk: made, ...before } = read();
      writeFileSync(marker, JSON.stringify(before));
      await transfer(server.url, 2).done;
      assert.deepEqual(read(), { ...before, disk: made });
      qemuImg('compare', '-f', 'raw', '-F', 'raw', raw, disk);
    });

    it('is made anew by a retry after an emptying that ended half-way', async () => {
      const { server, disk, state, path, prepare, transfer, empty } = await die();
      await using _ = server;
      // in the place of the permissions that cannot be given back
      const marker = `${state}/reserved.json`;
      const before = JSON.parse(readFileSync(marker, 'utf8')) as { before: object };
      if (process.getuid?.() === 0) {
        writeFileSync(marker, JSON.stringify({ ...before, before: { ...before.before, uid: -2 } }));
        await assert.rejects(empty(), (error) => error instanceof Error);
        assert.deepEqual(readdirSync(path), []);
      } else await empty();
      await prepare();
      await transfer(server.url, 2).done;
      qemuImg('compare', '-f', 'raw', '-F', 'raw', raw, disk);
    });
  });

  function makeTar(): string {
    const tar = `${directory()}/disk.tar`;
    const files = `${directory()}/of-tar`;
    mkdirSync(files, { recursive: true });
    writeFileSync(`${files}/disk.img`, 'of an archive');
    execFileSync('tar', ['-cf', tar, '-C', files, '.']);
    return tar;
  }

  it('is refused where its path is a file, or its file system too small for the disk', async () => {
    await assert.rejects(
      reserve(directory(), raw, filesystem).prepare(),
      refusal('IncompatiblePVC', /volumeMode Filesystem, and its path .* is not a directory/),
    );
    const path = make();
    using mounted = tryMount(path, ['-t', 'tmpfs', '-o', 'size=8m', 'none']);
    if (!mounted) return;
    await assert.rejects(
      reserve(directory(), path, filesystem).prepare(),
      refusal('VolumeTooSmall', /has 8388608 bytes/),
    );
  });
});
