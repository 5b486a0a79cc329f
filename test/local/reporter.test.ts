import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

describe('a test run', () => {
  it('closes with what passed, failed and was skipped', function () {
    this.timeout(20_000);
    const directory = mkdtempSync(join(tmpdir(), 'dvflow-reporter-'));
    const file = join(directory, 'suite.cjs');
    writeFileSync(
      file,
      "it('a', () => {}); it('b', () => {}); it('c', () => { throw new Error('x'); }); it.skip('d', () => {});",
    );
    const mocha = join(root, 'node_modules', 'mocha', 'bin', 'mocha.js');
    const reporter = join(root, 'test', 'support', 'reporter.cjs');
    const { stdout, status } = spawnSync(
      process.execPath,
      [mocha, '--no-config', '--no-package', '--reporter', reporter, file],
      {
        encoding: 'utf8',
        cwd: directory,
      },
    );
    rmSync(directory, { recursive: true });
    assert.equal(stdout.trimEnd().split('\n').at(-1), '2 passed, 1 failed, 1 skipped');
    assert.equal(status, 1);
  });
});
