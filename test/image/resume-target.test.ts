import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { failureTypeOf } from '../../activities/failures.js';
import { createRecordStore, type Durable, type RecordStore } from '../../activities/image/resume-record.js';
import type { TransferResult } from '../../activities/types.js';
import { convertInto } from './support/convert-into.js';
import { createFileSource, type FileSourceOptions } from './support/file-source.js';
import { makeRaw, MIB, useDirectory } from './support/images.js';
import { readDevice, useLoopDevices, type LoopOptions } from './support/loop-device.js';

const DISK_BYTES = 24 * MIB;
const SOON = { everyBytes: 1, everyMs: 0 };

describe('a resume record', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const loops = useLoopDevices({ optional: true });
  let raw = '';
  let count = 0;
  before(() => (raw = makeRaw(`${directory()}/disk.raw`, DISK_BYTES)));

  /** A name for what a test makes, which no other test has. */
  const fresh = (what: string): string => `${directory()}/${what}-${(count += 1)}`;

  async function run(target: string, state: string, fence: number, source: FileSourceOptions = {}) {
    const options = { state, fence, checkpointEvery: SOON };
    return await convertInto(createFileSource(raw, source), target, options);
  }

  /** An attempt that ends half-way; where its record lies. */
  async function begin(target: string): Promise<string> {
    const state = fresh('state');
    await assert.rejects(
      run(target, state, 1, { failAfter: 14 * MIB }),
      (error) => failureTypeOf(error) === 'SourceUnavailable',
    );
    const { durable } = await createRecordStore(state).load();
    assert.ok(durable && durable.completed > 0, 'something is durable');
    return state;
  }

  /** What the record says of the durable part. */
  async function rewrite(state: string, change: (durable: Durable) => Durable): Promise<void> {
    const records = createRecordStore(state);
    const { durable, ...record } = await records.load();
    await records.save({ ...record, durable: change(durable!) });
  }

  async function assertAnew(target: string, state: string): Promise<void> {
    const result: TransferResult = await run(target, state, 2);
    assert.equal(result.resumedFrom, 0);
    assert.ok(readFileSync(target).equals(readFileSync(raw)), 'the disk is another one');
  }

  it('is gone on with in the file that it is about', async () => {
    const target = fresh('file');
    const state = await begin(target);
    const { resumedFrom } = await run(target, state, 2);
    assert.ok(resumedFrom > 0);
    assert.ok(readFileSync(target).equals(readFileSync(raw)));
  });

  it('is good for no other file of the same size, even if that has got its inode', async () => {
    const target = fresh('file');
    const state = await begin(target);
    const { size } = statSync(target);
    rmSync(target);
    writeFileSync(target, '');
    truncateSync(target, size);
    // as a file system gives it that uses inodes again at once
    const file = { inode: statSync(target).ino, bytes: size };
    await rewrite(state, (durable) => ({ ...durable, file }));
    await assertAnew(target, state);
  });

  it('of an older release, which does not say which target it is about, is good for none', async () => {
    const target = fresh('file');
    const state = await begin(target);
    await rewrite(state, ({ target: _, ...durable }) => durable);
    await assertAnew(target, state);
  });

  it('vouches for nothing once its target is emptied for another plan, however that attempt ends', async () => {
    const target = fresh('file');
    const state = await begin(target);
    const store = createRecordStore(state);
    const dying: RecordStore = {
      ...store,
      // what an emptied target gets: the attempt ends before it is written
      save: async (record) => {
        if (record.durable?.completed === 0) throw new Error('the machine fails');
        await store.save(record);
      },
    };
    const served = createFileSource(raw, { ranges: false });
    await assert.rejects(convertInto(served, target, { state, records: dying, fence: 2 }), /machine fails/u);
    await run(target, state, 3);
    assert.ok(readFileSync(target).equals(readFileSync(raw)), 'what was emptied counted as durable');
  });

  describe('of a device', () => {
    before(function () {
      if (loops.available) return;
      this.test!.title += ' (loop devices need root)';
      this.skip();
    });

    const device = (options: LoopOptions = {}): { backing: string; path: string } => {
      const backing = fresh('backing');
      return { backing, path: loops.make(backing, DISK_BYTES, options) };
    };

    async function assertAnewOn({ backing, path }: ReturnType<typeof device>, state: string): Promise<void> {
      assert.equal((await run(path, state, 2)).resumedFrom, 0);
      assert.ok(readDevice(backing, path).equals(readFileSync(raw)), 'the disk is another one');
    }

    it('is gone on with on that device', async () => {
      const { backing, path } = device();
      const state = await begin(path);
      assert.ok((await run(path, state, 2)).resumedFrom > 0);
      assert.ok(readDevice(backing, path).equals(readFileSync(raw)));
    });

    it('is good for no other device of the same size', async () => {
      const state = await begin(device().path);
      await assertAnewOn(device(), state);
    });

    it('is good for nothing that is attached later under the same name', async () => {
      const { backing, path } = device({ ownNumber: true });
      const state = await begin(path);
      execFileSync('losetup', ['--detach', path]);
      // another file, by the same path
      rmSync(backing);
      writeFileSync(backing, '');
      truncateSync(backing, DISK_BYTES);
      await loops.attach(path, backing);
      await assertAnewOn({ backing, path }, state);
    });

    it('is good for no file, nor that of a file for a device', async () => {
      const file = fresh('file');
      writeFileSync(file, '');
      truncateSync(file, DISK_BYTES);
      await assertAnew(file, await begin(device().path));
      const state = await begin(fresh('file'));
      await rewrite(state, (durable) => ({ ...durable, diskBytes: DISK_BYTES }));
      await assertAnewOn(device(), state);
    });

    it('is good for no partition that begins elsewhere on its disk', async () => {
      const backing = fresh('backing');
      const disk = loops.make(backing, 3 * DISK_BYTES);
      const partition = (start: number): string => {
        const table = `label: dos\n${start / 512},${DISK_BYTES / 512}\n`;
        execFileSync('sfdisk', ['--quiet', '--no-reread', '--no-tell-kernel', disk], { input: table });
        execFileSync('partx', ['--update', disk]);
        return `${disk}p1`;
      };
      const state = await begin(partition(MIB));
      const path = partition(MIB + DISK_BYTES);
      assert.equal((await run(path, state, 2)).resumedFrom, 0);
      execFileSync('blockdev', ['--flushbufs', path]);
      assert.ok(readFileSync(path).equals(readFileSync(raw)), 'the disk is another one');
      execFileSync('partx', ['--delete', disk]);
    });
  });
});
