import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { convertInto } from './support/convert-into.js';
import { createFileSource } from './support/file-source.js';
import { makePatterned, MIB, useDirectory } from './support/images.js';
import { makeMappedTwice } from './support/mapped-twice.js';
import { refusal } from './support/refused.js';

describe('a qcow2 whose later table maps a cluster that an earlier one has mapped', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  let image = '';
  let expected = '';
  before(() => {
    const raw = makePatterned(`${directory()}/disk.raw`, 8);
    image = `${directory()}/image.qcow2`;
    expected = `${directory()}/expected.raw`;
    makeMappedTwice(raw, image, expected);
    assert.ok(!readFileSync(expected).equals(readFileSync(raw)));
  });

  const assertSame = (target: string): void =>
    assert.ok(readFileSync(target).equals(readFileSync(expected)), 'the disk that QEMU reads');

  it('is read by ranges', async () => {
    const target = `${directory()}/ranged.img`;
    await convertInto(createFileSource(image), target);
    assertSame(target);
  });

  it('is refused in one pass, where the first use of the cluster has gone by', async () => {
    const target = `${directory()}/one-pass.img`;
    const converting = convertInto(createFileSource(image, { ranges: false }), target);
    const message = /qcow2 cluster at \d+ is mapped .* or is mapped twice/u;
    await assert.rejects(converting, refusal('ScratchSpaceRequired', message));
  });

  it('is read from scratch space then, and again after a failure', async () => {
    const target = `${directory()}/scratch.img`;
    const options = { scratch: directory(), checkpointEvery: { everyBytes: MIB, everyMs: 0 } };
    const failing = createFileSource(image, { ranges: false, failAfter: 8 * MIB });
    await assert.rejects(convertInto(failing, target, options), /told to fail/);
    const source = createFileSource(image, { ranges: false });
    const { scratchBytes = 0 } = await convertInto(source, target, { ...options, fence: 2 });
    assert.ok(scratchBytes > 0);
    assertSame(target);
  });
});
