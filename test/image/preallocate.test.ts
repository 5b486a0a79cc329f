import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { convertFile } from './support/convert.js';
import { makePatterned, MIB, useDirectory } from './support/images.js';
import { refusal } from './support/refused.js';

describe('a disk that is to have all of its blocks', () => {
  const directory = useDirectory();
  const { PATH } = process.env;

  afterEach(() => (process.env['PATH'] = PATH));

  /** A `fallocate` that allocates some, and says why not all. */
  function failWith(said: string): void {
    const tools = `${directory()}/tools`;
    mkdirSync(tools, { recursive: true });
    writeFileSync(
      `${tools}/fallocate`,
      `#!/bin/sh\nhead -c 100000 /dev/zero > "$3"\necho "fallocate: fallocate failed: ${said}" >&2\nexit 1\n`,
    );
    chmodSync(`${tools}/fallocate`, 0o755);
    process.env['PATH'] = `${tools}:${PATH}`;
  }

  for (const [said, type, message, final] of [
    ['Operation not supported', 'IncompatiblePVC', /team-a\/vm1: its file system does not do that/, true],
    [
      'No space left on device',
      'NoSpace',
      /8388608 bytes cannot be preallocated for claim team-a\/vm1$/,
      false,
    ],
  ] as const)
    it(`is ${type} where its file system says ${said}, and leaves the others their room`, async () => {
      const image = makePatterned(`${directory()}/disk.raw`, 8);
      const target = `${directory()}/${type}.img`;
      failWith(said);
      const converting = convertFile(image, target, { usableBytes: 8 * MIB, preallocation: true });
      await assert.rejects(converting, refusal(type, message, final));
      assert.equal(statSync(target).size, 0);
      assert.equal(readFileSync(`${target}.record/record.json`, 'utf8').includes('"durable"'), false);
    });
});
