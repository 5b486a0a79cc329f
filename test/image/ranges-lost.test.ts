import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { createRecordStore } from '../../activities/image/resume-record.js';
import { unpackImage } from '../../activities/image/unpack-image.js';
import { convertFile } from './support/convert.js';
import { createFileSource } from './support/file-source.js';
import { makeRaw, MIB, useDirectory } from './support/images.js';
import { piped } from './support/ways.js';

/** Offsets at which a server stops answering ranges: while an index is read, between blocks, and in their midst. */
const MOMENTS = [0, MIB + 200_000, 3 * MIB];

describe('a server that no longer answers ranges', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  let raw = '';
  before(() => (raw = makeRaw(`${directory()}/disk.raw`, 16 * MIB)));

  for (const moment of MOMENTS) {
    it(`after ${moment} bytes of a raw disk in xz of blocks: it is read in one pass`, async () => {
      const image = `${directory()}/disk-${moment}.xz`;
      piped('xz -0 -T1 --block-size=512KiB')(raw, image);
      await convertFile(image, `${image}.out`, { usableBytes: 16 * MIB, loseRangesAfter: moment });
      assert.ok(readFileSync(`${image}.out`).equals(readFileSync(raw)));
    });

    it(`after ${moment} bytes of an archive in xz of blocks: it is unpacked from its start`, async () => {
      const image = `${directory()}/files-${moment}.tar.xz`;
      const script = 'tar -cf - disk.raw | xz -0 -T1 --block-size=512KiB > "$1"';
      execFileSync('sh', ['-c', script, 'sh', image], { cwd: directory() });
      const volume = `${image}.volume`;
      mkdirSync(volume);
      mkdirSync(`${volume}.state`);
      const fd = openSync(volume, 'r');
      const source = createFileSource(image, { loseRangesAfter: moment });
      try {
        await unpackImage({
          source,
          directory: { fd },
          size: { claimName: 'team-a/vm1', usableBytes: 20 * MIB },
          records: createRecordStore(`${volume}.state`),
          fence: 1,
          attempt: 1,
          signal: new AbortController().signal,
        });
      } finally {
        source.close();
        closeSync(fd);
      }
      assert.deepEqual(readdirSync(volume), ['disk.raw']);
      assert.ok(readFileSync(`${volume}/disk.raw`).equals(readFileSync(raw)));
    });
  }
});
