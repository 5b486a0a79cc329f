import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { failureTypeOf } from '../../activities/failures.js';
import { noSpaceOr } from '../../activities/image/no-space.js';
import { createRecordStore, EMPTY_RECORD } from '../../activities/image/resume-record.js';
import { holdMount, type HeldMount } from '../support/mounts.js';
import { convertFile } from './support/convert.js';
import { makePatterned, MIB, useDirectory } from './support/images.js';

describe('a full file system', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  let holder: HeldMount;
  let full = '';

  before(async () => {
    const mountPoint = `${directory()}/small`;
    mkdirSync(mountPoint);
    holder = await holdMount('-t', 'tmpfs', '-o', 'size=4m,mode=777', 'none', mountPoint);
    full = holder.path;
  });
  after(async () => await holder[Symbol.asyncDispose]());

  it('is NoSpace, though the record of the failed attempt finds no room either', async () => {
    const image = makePatterned(`${directory()}/disk.raw`, 16);
    const target = `${full}/disk.img`;
    await assert.rejects(convertFile(image, target, { usableBytes: 16 * MIB, direct: false }), (error) => {
      assert.equal(failureTypeOf(error), 'NoSpace', String(error));
      assert.match(String(error), /no space left on the volume's file system \(ENOSPC\)$/);
      return true;
    });
    assert.throws(() => writeFileSync(`${full}/more`, 'x'.repeat(8192)), { code: 'ENOSPC' });
    truncateSync(target, 0);
  });

  it('is NoSpace for a record too, and leaves the one that is there', async () => {
    const home = `${full}/record`;
    mkdirSync(home);
    const store = createRecordStore(home);
    await store.save({ ...EMPTY_RECORD, fence: 1 });
    const before = readFileSync(`${home}/record.json`, 'utf8');
    assert.throws(() => writeFileSync(`${full}/ballast`, Buffer.alloc(8 * MIB)), { code: 'ENOSPC' });
    await assert.rejects(
      store.save({ ...EMPTY_RECORD, fence: 2 }),
      (error) => failureTypeOf(error) === 'NoSpace',
    );
    assert.equal(readFileSync(`${home}/record.json`, 'utf8'), before);
  });
});

describe('a file system whose files cannot be as large as the disk', () => {
  it('is LargerPVCRequired, for good', () => {
    const found = noSpaceOr(Object.assign(new Error('EFBIG: file too large, ftruncate'), { code: 'EFBIG' }));
    assert.equal(failureTypeOf(found), 'LargerPVCRequired');
    assert.equal('nonRetryable' in found && found.nonRetryable, true);
  });
});
