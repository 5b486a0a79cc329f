import assert from 'node:assert/strict';
import { ApplicationFailure } from '@temporalio/common';
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import type { ConvertJob } from '../../activities/image/convert-job.js';
import { convertImage } from '../../activities/image/convert.js';
import { createRecordStore, type ResumeRecord } from '../../activities/image/resume-record.js';
import { createSparseWriter } from '../../activities/image/writer.js';
import type { TransferResult } from '../../activities/types.js';
import { convertInto } from './support/convert-into.js';
import { createFileSource } from './support/file-source.js';
import { makePatterned, MIB, useDirectory } from './support/images.js';
import { readDevice, useLoopDevices } from './support/loop-device.js';
import { refusal } from './support/refused.js';
import { WAYS, type Way } from './support/ways.js';

const DISK_BYTES = 32 * MIB;
/** Room that the backing file has; the device claims to be larger. */
const ROOM_BYTES = 18 * MIB;
const OFTEN = { everyBytes: 6 * MIB, everyMs: Infinity };

/** How a full device shows: at once where its blocks are written past the cache, else when the cache is written out. */
const FULL =
  /^(NoSpace: no space left on the volume's file system \(ENOSPC\)|NodeUnavailable: the target cannot be written \(EIO\))$/;

/** A transient failure whose type and message are these. */
function transient(message: RegExp): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof ApplicationFailure, String((error as Error).stack));
    assert.equal(error.nonRetryable, false);
    assert.match(`${error.type}: ${error.message}`, message);
    return true;
  };
}

describe('a target that fails', function () {
  this.timeout(120_000);
  const directory = useDirectory();
  const loops = useLoopDevices();
  const mount = (): string => `${directory()}/mount`;
  const backing = (): string => `${mount()}/backing`;
  let raw = '';
  let image = '';
  before(() => {
    mkdirSync(mount());
    raw = makePatterned(`${directory()}/disk.raw`, DISK_BYTES / MIB);
    image = `${directory()}/image`;
  });
  afterEach(() => execFileSync('sh', ['-c', `umount '${mount()}' 2>/dev/null || true`]));

  const mountSmall = (): void =>
    void execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${ROOM_BYTES}`, 'none', mount()]);
  const makeRoom = (): void => void execFileSync('mount', ['-o', `remount,size=${4 * DISK_BYTES}`, mount()]);

  const way = (name: string): Way => WAYS[name]!;
  const job = (state: string, fence: number): Omit<ConvertJob, 'source' | 'target'> => ({
    size: { claimName: 'team-a/vm1', usableBytes: DISK_BYTES },
    preallocation: false,
    records: createRecordStore(state),
    fence,
    attempt: fence,
    signal: new AbortController().signal,
    checkpointEvery: OFTEN,
  });

  /** What the kernel does when it finds the file system damaged. */
  const abortFileSystem = (): void =>
    void execFileSync('sh', ['-c', `mount -o remount,abort '${mount()}' 2>/dev/null || true`]);

  const recordIn = (state: string): ResumeRecord =>
    JSON.parse(readFileSync(`${state}/record.json`, 'utf8')) as ResumeRecord;

  /** What the record vouches for is on the device. */
  function assertVouched(device: string, { completed }: { readonly completed: number }): void {
    const found = readDevice(backing(), device).subarray(0, completed);
    assert.ok(found.equals(readFileSync(raw).subarray(0, completed)), `the first ${completed} bytes`);
  }

  for (const [name, way] of Object.entries(WAYS))
    it(`${name}: a device without room behind it fails by type, and is gone on with when there is room`, async () => {
      way.make(raw, image);
      mountSmall();
      const device = loops.make(backing(), DISK_BYTES, { dirty: false });
      const options = { state: `${directory()}/${name}`, scratch: directory(), checkpointEvery: OFTEN };
      const attempt = (fence: number): Promise<TransferResult> =>
        convertInto(createFileSource(image, way.source), device, { ...options, fence });
      await assert.rejects(attempt(1), transient(FULL));
      const { durable } = recordIn(options.state);
      if (durable?.plan === 'ranged') assertVouched(device, durable);
      makeRoom();
      await attempt(2);
      assert.ok(readDevice(backing(), device).equals(readFileSync(raw)));
    });

  it('vouches for nothing that a cache lost, though a second sync says that all is well', async () => {
    way('qcow2 by ranges').make(raw, image);
    mountSmall();
    const device = loops.make(backing(), DISK_BYTES, { dirty: false });
    const state = `${directory()}/cached`;
    mkdirSync(state);
    const attempt = async (fence: number): Promise<TransferResult> => {
      const fd = openSync(device, 'r+');
      const source = createFileSource(image);
      try {
        return await convertImage({ ...job(state, fence), source, target: { fd, deviceBytes: DISK_BYTES } });
      } finally {
        source.close();
        closeSync(fd);
      }
    };
    await assert.rejects(attempt(1), transient(/^NodeUnavailable: the target cannot be written \(EIO\)$/));
    const { durable } = recordIn(state);
    assert.ok(durable);
    makeRoom();
    assertVouched(device, durable);
    // an error of write-back that nobody was told is told to the next who opens the device
    await attempt(2).catch((error: unknown) => {
      assert.match(String(error), /the target cannot be written \(EIO\)/);
      return attempt(3);
    });
    assert.ok(readDevice(backing(), device).equals(readFileSync(raw)));
  });

  it('is not in order again because a second sync says so', async () => {
    mountSmall();
    const device = loops.make(backing(), DISK_BYTES, { dirty: false });
    const fd = openSync(device, 'r+');
    const { signal } = new AbortController();
    const writer = createSparseWriter({ fd, deviceBytes: DISK_BYTES }, signal);
    try {
      await writer.write(0, readFileSync(raw));
      const lost = transient(/^NodeUnavailable: the target cannot be written \(EIO\)$/);
      await assert.rejects(writer.syncData(), lost);
      await assert.rejects(writer.syncData(), lost);
      await assert.rejects(writer.syncAll(), lost);
    } finally {
      closeSync(fd);
    }
  });

  it('of a file system that went read-only on the way is NodeUnavailable', async () => {
    const device = loops.make(`${directory()}/ext4`, 2 * DISK_BYTES, { dirty: false });
    execFileSync('mkfs.ext4', ['-q', device]);
    execFileSync('mount', [device, mount()]);
    const source = createFileSource(raw, {
      onRead: (bytes) => bytes > DISK_BYTES / 2 && abortFileSystem(),
    });
    const running = convertInto(source, `${mount()}/disk.img`, { state: `${directory()}/abort` });
    await assert.rejects(
      running,
      transient(/^NodeUnavailable: the target cannot be written \((EROFS|EIO)\)$/),
    );
  });

  it('is not blamed for scratch space that is full, or that went read-only', async () => {
    way('qcow2 from scratch space').make(raw, image);
    const target = `${directory()}/beside.img`;
    const attempt = (onRead: (bytes: number) => void): Promise<TransferResult> =>
      convertInto(createFileSource(image, { ranges: false, onRead }), target, { scratch: mount() });
    mountSmall();
    await assert.rejects(
      attempt(() => undefined),
      transient(/^ScratchUnavailable: no space left in scratch space$/),
    );
    const device = loops.make(`${directory()}/scratch`, 2 * DISK_BYTES, { dirty: false });
    execFileSync('mkfs.ext4', ['-q', device]);
    execFileSync('mount', [device, mount()]);
    await assert.rejects(
      attempt((bytes) => bytes > DISK_BYTES / 2 && abortFileSystem()),
      transient(/^ScratchUnavailable: scratch space cannot be used \((EROFS|EIO)\)$/),
    );
    execFileSync('umount', [mount()]);
  });

  it('of a read-only file system is NotAuthorized', async () => {
    mountSmall();
    writeFileSync(`${mount()}/disk.img`, '');
    execFileSync('mount', ['-o', 'remount,ro', mount()]);
    await assert.rejects(
      convertInto(createFileSource(raw), `${mount()}/disk.img`, { state: `${directory()}/read-only` }),
      refusal('NotAuthorized', /disk\.img cannot be written \(EROFS\)$/),
    );
  });
});

describe('a target that is removed while it is written', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  let raw = '';
  before(() => (raw = makePatterned(`${directory()}/disk.raw`, 16)));

  for (const [name, source] of [
    ['by ranges', {}],
    ['as a stream', { ranges: false }],
  ] as const)
    it(`is ClaimLost at the end: nobody would get what was written (${name})`, async () => {
      const target = `${directory()}/disk.img`;
      let removed = false;
      const onRead = (bytes: number): void => {
        if (removed || bytes < 8 * MIB) return;
        removed = true;
        unlinkSync(target);
      };
      const running = convertInto(createFileSource(raw, { ...source, onRead }), target);
      await assert.rejects(running, refusal('ClaimLost', /was removed while it was written$/));
      assert.ok(removed && !existsSync(target));
    });
});
