import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { sourceRequest } from '../../cli/local-source.js';
import { makeRaw, MIB, useDirectory } from '../image/support/images.js';
import { apart, commandLine, runDvflow } from './command.js';

describe('arguments of the commands that read images', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const at = (name: string): string => join(directory(), name);

  const dvflow = (...args: readonly string[]) =>
    runDvflow(args, { env: apart(directory()), timeoutMs: 15_000 });

  before(() => void makeRaw(at('disk.raw'), MIB));

  it('an option that may be repeated leaves alone what follows its value', () => {
    const { status, stderr } = dvflow(
      'inspect',
      '--denied-sources',
      '127.0.0.0/8',
      '--header',
      'X-One: 1',
      'http://127.0.0.1:1/',
    );
    assert.doesNotMatch(stderr, /missing required argument/);
    assert.match(stderr, /^dvflow: SourceNotAllowed/m);
    assert.equal(status, 3);
  });

  for (const [option, address] of [
    [['--header', 'a: b'], 's3://bucket/key'],
    [['--insecure-skip-verify'], 's3://bucket/key'],
    [['--arch', 'arm64'], 'http://127.0.0.1:1/'],
    [['--proxy', 'http://127.0.0.1:1'], 'disk.raw'],
    // whose name commander takes for a negation
    [['--no-proxy-for', 'a.example'], 'disk.raw'],
  ] as const)
    it(`${option[0]} is refused where it does nothing: ${address}`, () => {
      const { status, stderr } = dvflow('inspect', address, ...option);
      assert.match(stderr, new RegExp(`^dvflow: ${option[0]} is for sources of kind`, 'm'));
      assert.equal(status, 2);
    });

  for (const address of ['http:/u:SECRET@127.0.0.1/x', 'https:u:SECRET@127.0.0.1', '//u:SECRET@127.0.0.1/x'])
    it(`an address with a slip in it is not shown: ${address.replace('SECRET', '…')}`, async () => {
      await assert.rejects(sourceRequest(address, {}, {}), (error: Error) => {
        assert.match(error.message, /without :\/\//);
        assert.doesNotMatch(error.message, /SECRET/);
        return true;
      });
    });

  it('the longest name that a file can have is a target, and keeps its state beside it meanwhile', () => {
    const name = 'n'.repeat(255);
    const { status, stderr } = dvflow('convert', at('disk.raw'), at(name));
    assert.equal(status, 0, stderr);
    assert.ok(existsSync(at(name)));
    assert.deepEqual(
      readdirSync(directory()).filter((entry) => entry.endsWith('.dvflow')),
      [],
    );
  });

  it('a name that is not UTF-8 is refused, not mistaken for another one', () => {
    const words = commandLine('convert', at('disk.raw')).map((word) => `'${word}'`);
    const script = `exec '${process.execPath}' ${words.join(' ')} '${directory()}'/disk$'\\xe9'.img`;
    const { status, stderr } = spawnSync('bash', ['-c', script], {
      encoding: 'utf8',
      env: apart(directory()),
      timeout: 15_000,
    });
    assert.match(stderr, /^dvflow: an argument is not UTF-8/m);
    assert.equal(status, 2);
    assert.deepEqual(
      readdirSync(directory()).filter((entry) => entry.endsWith('.img')),
      [],
    );
  });

  it('U+FFFD itself is a letter like any other', () => {
    const { status, stderr } = dvflow('convert', at('disk.raw'), at('disk\ufffd.img'));
    assert.equal(status, 0, stderr);
    assert.ok(existsSync(at('disk\ufffd.img')));
  });
});
