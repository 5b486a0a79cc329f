import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import type { Info } from '@temporalio/activity';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { createBlankActivities } from '../../activities/image/blank-disk.js';
import { EMPTY_RECORD, type ResumeRecord } from '../../activities/image/resume-record.js';
import { createNodeActivities } from '../../activities/node/index.js';
import type { FillTarget, TransferProgress, TransferResult } from '../../activities/types.js';
import { MIB, useDirectory } from '../image/support/images.js';
import { readDevice, useLoopDevices } from '../image/support/loop-device.js';
import { refusal } from '../image/support/refused.js';
import { USER } from '../image/support/transfer.js';
import { tryMount } from './support.js';

const GIB = 1024 * MIB;
const newClaim = () => ({ namespace: 'team-a', name: 'data', uid: randomUUID() });

type Node = ReturnType<typeof createNodeActivities>;

/** Reserves a directory for a DataVolume of its own in a pool. */
async function reserveIn(pool: string, usableBytes: number) {
  const node = createNodeActivities({ node: 'here', transferUser: USER });
  const dataVolume = { namespace: 'team-a', name: 'data', uid: randomUUID() };
  const target = await node.reserveDirectory({
    dataVolume,
    claim: newClaim(),
    pool: { path: pool, useNamingPrefix: false, overcommit: 1000 },
    hostname: 'here',
    requestBytes: usableBytes,
    foreignBytes: 0,
    workflowId: `datavolume/team-a/data/${dataVolume.uid}`,
  });
  assert.equal(target.refused, undefined);
  return {
    node,
    target,
    disk: `${pool}/${target.directory}/disk.img`,
    record: `${pool}/.dvflow/${dataVolume.uid}/record.json`,
    create: (more: Partial<Request> = {}) =>
      create({ target, usableBytes, preallocation: false, stateDirectory: '', ...more }).done,
  };
}

interface Request {
  readonly target: FillTarget;
  readonly usableBytes: number;
  readonly preallocation: boolean;
  readonly stateDirectory: string;
  readonly info: Partial<Info>;
  readonly observe: (bytes: number) => void;
}

/** One attempt as Temporal would make it. */
function create({
  stateDirectory,
  info,
  observe,
  ...input
}: Omit<Request, 'info' | 'observe'> & Partial<Request>) {
  const activities = createBlankActivities({ transferUser: USER, stateDirectory, observe });
  const environment = new MockActivityEnvironment(
    { attempt: 1, ...info },
    { logger: new DefaultLogger('ERROR') },
  );
  const beats: TransferProgress[] = [];
  environment.on('heartbeat', (details: unknown) => beats.push(details as TransferProgress));
  const done = environment.run<[], TransferResult, () => Promise<TransferResult>>(() =>
    activities.createBlankDisk({ ...input, claim: newClaim() }),
  );
  done.catch(() => undefined);
  return { done, beats, cancel: () => environment.cancel() };
}

/** Bytes of the file that take room. */
const allocated = (path: string): number => statSync(path).blocks * 512;

describe('a blank disk in a pool', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const makePool = (): string => {
    const pool = `${directory()}/${randomUUID()}`;
    mkdirSync(pool);
    return pool;
  };

  it('is a hole of the usable size, for qemu alone, and as the verification wants it', async () => {
    const { node, target, disk, create: make } = await reserveIn(makePool(), 471 * MIB);
    const transferred = await make();
    const { size, mode, uid } = statSync(disk);
    assert.deepEqual([size, mode & 0o7777, uid], [471 * MIB, 0o660, USER?.uid ?? process.getuid?.()]);
    assert.ok(allocated(disk) < MIB, `${allocated(disk)} bytes are allocated`);
    assert.deepEqual([transferred.virtualSize, transferred.bytesWritten], [471 * MIB, 0]);
    await node.verifyImage({ directory: target, transferred });
  });

  it('takes the room of every block when it is preallocated', async () => {
    const { node, target, disk, create: make } = await reserveIn(makePool(), 32 * MIB);
    const transferred = await make({ preallocation: true });
    assert.equal(statSync(disk).size, 32 * MIB);
    assert.ok(allocated(disk) >= 32 * MIB, `${allocated(disk)} bytes are allocated`);
    assert.ok(readFileSync(disk).every((byte) => byte === 0));
    await node.verifyImage({ directory: target, transferred });
  });

  it('is the same one the second time, and is not made again', async () => {
    const { disk, create: make } = await reserveIn(makePool(), 8 * MIB);
    const first = await make();
    const { ino } = statSync(disk);
    assert.deepEqual(await make({ info: { attempt: 2 } }), first);
    assert.equal(statSync(disk).ino, ino);
  });

  it('gets another size where a run that is over has left one of another', async () => {
    const { disk, create: make } = await reserveIn(makePool(), 8 * MIB);
    await make();
    assert.equal((await make({ usableBytes: 12 * MIB })).diskBytes, 12 * MIB);
    assert.equal(statSync(disk).size, 12 * MIB);
  });

  it('gets its blocks, or is without them, where a run that is over has made it otherwise', async () => {
    const { disk, create: make } = await reserveIn(makePool(), 8 * MIB);
    await make();
    await make({ preallocation: true });
    assert.ok(allocated(disk) >= 8 * MIB, `${allocated(disk)} bytes are allocated`);
    const { ctimeMs } = statSync(disk);
    await make({ preallocation: true });
    assert.equal(statSync(disk).ctimeMs, ctimeMs, 'it is made once');
    await make();
    assert.ok(allocated(disk) < MIB, `${allocated(disk)} bytes are allocated`);
  });

  it('is one disk when two attempts make it at once', async () => {
    const { node, target, disk, create: make } = await reserveIn(makePool(), 8 * MIB);
    const [one, other] = await Promise.all([make(), make({ info: { attempt: 2 } })]);
    assert.equal(one.diskBytes, other.diskBytes);
    assert.equal(statSync(disk).size, 8 * MIB);
    await node.verifyImage({ directory: target, transferred: other });
  });

  it('takes the place of what a killed attempt or a tenant has left, and follows no link', async () => {
    const pool = makePool();
    const { disk, create: make } = await reserveIn(pool, 8 * MIB);
    writeFileSync(disk, 'half a disk');
    await make();
    assert.ok(readFileSync(disk).every((byte) => byte === 0));
    const linked = await reserveIn(pool, 8 * MIB);
    writeFileSync(`${directory()}/outside`, 'kept');
    symlinkSync(`${directory()}/outside`, linked.disk);
    await linked.create();
    assert.equal(readFileSync(`${directory()}/outside`, 'utf8'), 'kept');
    assert.equal(statSync(linked.disk).size, 8 * MIB);
  });

  it('is not made in a directory that is published', async () => {
    const { node, target, disk, create: make } = await reserveIn(makePool(), 8 * MIB);
    await make();
    await node.publishDirectory({ directory: target });
    writeFileSync(disk, 'a disk in use');
    await assert.rejects(make({ info: { attempt: 2 } }), refusal('ResourceExists', /is published or not/));
    assert.equal(readFileSync(disk, 'utf8'), 'a disk in use');
  });

  it('waits for room that it cannot have now, and keeps none of it meanwhile', async function () {
    const pool = makePool();
    using mounted = tryMount(pool, ['-t', 'tmpfs', '-o', 'size=8m', 'none']);
    if (!mounted) return this.skip();
    const { disk, record, create: make } = await reserveIn(pool, 32 * MIB);
    const full = refusal('NoSpace', /33554432 bytes cannot be preallocated for claim team-a\/data/, false);
    await assert.rejects(make({ preallocation: true }), full);
    assert.equal(allocated(disk), 0);
    assert.equal((JSON.parse(readFileSync(record, 'utf8')) as ResumeRecord).barren, 1);
    for (let attempt = 2; attempt < 10; attempt += 1)
      await assert.rejects(make({ preallocation: true, info: { attempt } }), full);
    const last = refusal('NoSpace', /attempt 10 in a row without progress: given up/);
    await assert.rejects(make({ preallocation: true, info: { attempt: 10 } }), last);
  });

  it('is refused where the file system cannot preallocate, or holds no file of that size', async function () {
    const pool = makePool();
    const file = `${directory()}/ext2`;
    execFileSync('truncate', ['--size', `${64 * MIB}`, file]);
    execFileSync('mkfs.ext2', ['-q', '-F', '-b', '1024', file]);
    using mounted = tryMount(pool, ['-o', 'loop', file]);
    if (!mounted) return this.skip();
    const { create: make } = await reserveIn(pool, 16 * MIB);
    const unable = /cannot be preallocated .*: its file system does not do that/;
    await assert.rejects(make({ preallocation: true }), refusal('IncompatiblePVC', unable));
    await make({ info: { attempt: 2 } });
    const { create: makeHuge } = await reserveIn(pool, 20 * GIB);
    await assert.rejects(makeHuge(), refusal('IncompatiblePVC', /holds no file of 21474836480 bytes/));
  });
});

describe('a blank block device', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  const devices = useLoopDevices();

  /** A static volume over a device, prepared for a DataVolume. */
  async function prepared(path: string) {
    const stateDirectory = `${directory()}/state-${randomUUID()}`;
    const volume = {
      node: 'here',
      hostname: 'here',
      dataVolume: { namespace: 'team-a', name: 'data', uid: randomUUID() },
      volume: 'pv1',
      volumeUid: randomUUID(),
      storageClass: 'local',
      volumeMode: 'Block',
      path,
      capacityBytes: 16 * MIB,
    } as const;
    const node: Node = createNodeActivities({ node: 'here', transferUser: USER, stateDirectory });
    await node.prepareVolume({ volume, claim: newClaim(), requestBytes: 16 * MIB, archive: false });
    const state = `${stateDirectory}/transfers/${volume.dataVolume.uid}`;
    return {
      node,
      volume,
      state,
      start: (
        preallocation: boolean,
        info: Partial<Info> = {},
        observe: Request['observe'] = () => undefined,
      ) => create({ target: volume, usableBytes: 16 * MIB, preallocation, stateDirectory, info, observe }),
      empty: () => new MockActivityEnvironment().run(() => node.emptyReservedVolume({ volume })),
    };
  }

  it('keeps what it holds, whether the disk is published or given up', async () => {
    const backing = `${directory()}/kept`;
    const device = devices.make(backing, 16 * MIB);
    const { node, volume, state, start, empty } = await prepared(device);
    const transferred = await start(false).done;
    assert.deepEqual([transferred.diskBytes, transferred.bytesWritten], [16 * MIB, 0]);
    await node.verifyImage({ directory: volume, transferred });
    await empty();
    assert.ok(!existsSync(state));
    assert.ok(
      readDevice(backing, device).every((byte) => byte === 0xaa),
      'something was written',
    );
  });

  it('reads as zeros from its start to its end when it is preallocated, and says how far it is', async () => {
    const backing = `${directory()}/zeroed`;
    const device = devices.make(backing, 16 * MIB);
    const { node, volume, start } = await prepared(device);
    let observed = 0;
    const { done, beats } = start(true, {}, (bytes) => (observed += bytes));
    const transferred = await done;
    assert.equal(observed, 16 * MIB, 'bytes for the metric');
    assert.equal(transferred.bytesWritten, 16 * MIB);
    assert.ok(readDevice(backing, device).every((byte) => byte === 0));
    await node.verifyImage({ directory: volume, transferred });
    assert.ok(
      beats.every(({ fraction = 0 }) => fraction < 1),
      '100 % is said after the verification',
    );
  });

  it('is zeroed where a run that is over has left it as it was', async () => {
    const backing = `${directory()}/later`;
    const device = devices.make(backing, 16 * MIB);
    const { start } = await prepared(device);
    await start(false).done;
    assert.equal((await start(true).done).bytesWritten, 16 * MIB);
    assert.ok(readDevice(backing, device).every((byte) => byte === 0));
  });

  it('goes on where a killed attempt was, and from the start on another device', async () => {
    const path = `${directory()}/link`;
    const one = devices.make(`${directory()}/one`, 2 * GIB + MIB, { dirty: false });
    const other = devices.make(`${directory()}/other`, 2 * GIB + MIB, { dirty: false });
    for (const device of [one, other]) dirty(device, [0, 2 * GIB]);
    symlinkSync(one, path);
    const { start, state } = await prepared(path);
    const completed = { completed: GIB, diskBytes: 2 * GIB + MIB, bytesWritten: GIB };
    const durable = { validators: {}, format: 'raw', containers: [], plan: 'one-pass', ...completed };
    writeFileSync(`${state}/record.json`, JSON.stringify({ ...EMPTY_RECORD, fence: 1, durable }));
    const resumed = await start(true, { attempt: 2 }).done;
    assert.equal(resumed.resumedFrom, GIB);
    assert.deepEqual([byteAt(one, 0), byteAt(one, 2 * GIB)], [0xaa, 0]);
    execFileSync('ln', ['-sfn', other, path]);
    const again = await start(true, { attempt: 3 }).done;
    assert.equal(again.resumedFrom, 0);
    assert.deepEqual([byteAt(other, 0), byteAt(other, 2 * GIB)], [0, 0]);
  });

  it('is given back as zeros after an attempt that was cancelled', async () => {
    const backing = `${directory()}/cancelled`;
    const device = devices.make(backing, 16 * MIB);
    const { start, empty } = await prepared(device);
    const { done, cancel } = start(true);
    cancel();
    await assert.rejects(done);
    await empty();
    assert.ok([0, 0xaa].includes(readDevice(backing, device)[0] ?? -1));
    // whether or not it had begun, nothing is torn
    assert.equal(new Set(readDevice(backing, device)).size, 1);
  });

  function dirty(device: string, offsets: readonly number[]): void {
    const fd = openSync(device, 'r+');
    for (const at of offsets) writeSync(fd, Buffer.alloc(4096, 0xaa), 0, 4096, at);
    closeSync(fd);
    execFileSync('blockdev', ['--flushbufs', device]);
  }

  function byteAt(device: string, offset: number): number {
    execFileSync('blockdev', ['--flushbufs', device]);
    const fd = openSync(device, 'r');
    const byte = Buffer.alloc(1);
    readSync(fd, byte, 0, 1, offset);
    closeSync(fd);
    return byte[0] ?? -1;
  }
});
