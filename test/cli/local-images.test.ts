import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { makeRaw, MIB, sha256, useDirectory } from '../image/support/images.js';
import { apart, runDvflow } from './command.js';

describe('a command that reads an image of this machine', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const at = (name: string): string => join(directory(), name);

  const dvflow = (...args: readonly string[]) =>
    runDvflow(args, { env: apart(directory()), timeoutMs: 15_000 });

  it('tells the digest of the disk that it has written', () => {
    const disk = makeRaw(at('disk.raw'), 12 * MIB);
    const { status, stdout, stderr } = dvflow('convert', disk, at('disk.out'), '--sha256-of-disk');
    assert.equal(status, 0, stderr);
    assert.match(stdout, new RegExp(`^sha256 of the disk ${sha256(disk)}$`, 'm'));
  });

  describe('that lies in a tar of which only the beginning is wanted', () => {
    before(() => {
      makeRaw(at('disk.raw'), 12 * MIB);
      execFileSync('tar', ['-C', directory(), '-cf', at('disk.tar'), 'disk.raw']);
      for (const tool of ['gzip', 'xz', 'zstd']) execFileSync(tool, ['-q1k', at('disk.tar')]);
    });

    for (const compressor of ['gz', 'xz', 'zst'])
      it(`looks into ${compressor} and ends`, () => {
        const { status, stdout, stderr } = dvflow('inspect', at(`disk.tar.${compressor}`));
        assert.equal(status, 0, stderr);
        assert.match(stdout, new RegExp(`^format +raw in tar in ${compressor}$`, 'm'));
      });

    it('refuses what is in xz and ends', () => {
      const { status, stderr } = dvflow('convert', at('disk.tar.xz'), at('disk.out'), '--format', 'vmdk');
      assert.match(stderr, /vmdk was expected/);
      assert.ok(status, 'it ends by itself');
    });
  });
});
