import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

describe('a test run', function () {
  this.timeout(20_000);
  const directory = mkdtempSync(join(tmpdir(), 'dvflow-reporter-'));
  after(() => rmSync(directory, { recursive: true }));

  /** Runs a suite; it is sent SIGTERM when it prints `cutAt`. */
  async function run(suite: string, cutAt?: string): Promise<{ lines: string[]; status: unknown }> {
    const file = join(directory, 'suite.cjs');
    writeFileSync(file, suite);
    const mocha = join(root, 'node_modules', 'mocha', 'bin', 'mocha.js');
    const reporter = join(root, 'test', 'support', 'reporter.cjs');
    const args = [mocha, '--no-config', '--no-package', '--exit', '--reporter', reporter, file];
    const child = spawn(process.execPath, args, { cwd: directory, stdio: ['ignore', 'pipe', 'inherit'] });
    let shown = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      shown += text;
      if (cutAt !== undefined && text.includes(cutAt)) child.kill('SIGTERM');
    });
    const [status] = (await once(child, 'close')) as unknown[];
    return { lines: shown.trimEnd().split('\n'), status };
  }

  it('closes with what passed, failed and was skipped', async () => {
    const { lines, status } = await run(
      "it('a', () => {}); it('b', () => {}); it('c', () => { throw new Error('x'); }); it.skip('d', () => {});",
    );
    assert.equal(lines.at(-1), '2 passed, 1 failed, 1 skipped');
    assert.equal(status, 1);
  });

  it('that is cut off says where, and what had failed before', async () => {
    const { lines, status } = await run(
      `it('a', () => {}); it('b', () => { throw new Error('early'); });
       describe('suite', () => it('hangs', function (done) { this.timeout(0); console.log('cut me'); setTimeout(done, 60_000); }));`,
      'cut me',
    );
    assert.deepEqual(lines.slice(-2), ['cut off in: suite hangs', '1 passed, 2 failed, 0 skipped']);
    assert.ok(lines.some((line) => line.includes('Error: early')));
    assert.equal(status, 1);
  });
});
