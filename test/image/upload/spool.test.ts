import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import type { ImageSource } from '../../../activities/image/source/types.js';
import { spoolUpload } from '../../../activities/image/upload/spool.js';
import { readUploadState, writeUploadState } from '../../../activities/image/upload/upload-state.js';
import { MIB, useDirectory } from '../support/images.js';
import { refusal } from '../support/refused.js';

const CONTENT = Buffer.from('all of it');

describe('a spooled upload of which everything has come', () => {
  const directory = useDirectory();

  /** The next attempt, with so much of the file in scratch space. */
  async function resume(kept: Buffer | undefined) {
    const known = { session: randomUUID(), length: CONTENT.length };
    const [scratch, own] = [`${directory()}/scratch-${known.session}`, `${directory()}/own-${known.session}`];
    mkdirSync(scratch);
    mkdirSync(own);
    await writeUploadState(own, { ...known, spooled: CONTENT.length, whole: true });
    if (kept) writeFileSync(`${scratch}/upload-${known.session}`, kept);
    const spooling = spoolUpload({} as ImageSource, {
      body: { ...known, start: CONTENT.length },
      scratch,
      directory: own,
      signal: new AbortController().signal,
      onProgress: () => undefined,
    });
    return { spooling, known, state: async () => await readUploadState(own) };
  }

  it('is read where it is kept', async () => {
    const { spooling } = await resume(CONTENT);
    await using spooled = await spooling;
    const read = Buffer.alloc(spooled.bytes);
    await spooled.source.readInto(0, read);
    assert.deepEqual(read, CONTENT);
  });

  for (const [what, kept] of [
    ['gone', undefined],
    ['shorter', CONTENT.subarray(0, 3)],
  ] as const)
    it(`is sent again from its start where what was kept is ${what}`, async () => {
      const { spooling, known, state } = await resume(kept);
      await assert.rejects(spooling, refusal('SourceUnavailable', /what was kept of it is gone/, false));
      assert.deepEqual(await state(), known);
    });
});

describe('a spooled upload that is longer than its scratch space', () => {
  const directory = useDirectory();

  it('ends before it occupies more room than it was given', async () => {
    const [scratch, own] = [`${directory()}/scratch`, `${directory()}/own`];
    mkdirSync(scratch);
    mkdirSync(own);
    const endless = async function* (): AsyncGenerator<Buffer> {
      for (;;) yield Buffer.alloc(MIB);
    };
    const known = { session: randomUUID() };
    const spooling = spoolUpload({ stream: endless } as unknown as ImageSource, {
      body: { ...known, start: 0 },
      scratch,
      room: { bytes: 4 * MIB, claimName: 'team-a/disk' },
      directory: own,
      signal: new AbortController().signal,
      onProgress: () => undefined,
    });
    const why = /more than the 4194304 bytes of scratch space that claim team-a\/disk offers/;
    await assert.rejects(spooling, refusal('LargerPVCRequired', why, true));
    assert.equal(statSync(`${scratch}/upload-${known.session}`).size, 4 * MIB);
  });
});
