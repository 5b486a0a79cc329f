import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runParts, type Part } from '../support/parts.js';

const root = fileURLToPath(new URL('../..', import.meta.url));

describe('a test run in parts', function () {
  this.timeout(30_000);
  const directory = mkdtempSync(join(tmpdir(), 'dvflow-parts-'));
  after(() => rmSync(directory, { recursive: true }));

  function part(name: string, suite: string): Part {
    const file = join(directory, `${name}.cjs`);
    writeFileSync(file, suite);
    const mocha = join(root, 'node_modules', 'mocha', 'bin', 'mocha.js');
    const reporter = join(root, 'test', 'support', 'reporter.cjs');
    return { args: [mocha, '--no-config', '--no-package', '--reporter', reporter, file] };
  }

  it('adds up what its parts came to, and shows one after the other', async () => {
    const slow = part('slow', "it('slow one', (done) => setTimeout(done, 1500)); it('slow two', () => {});");
    const quick = part('quick', "it('quick one', () => {}); it.skip('quick two', () => {});");
    let shown = '';
    const result = await runParts([slow, quick], (text) => (shown += text));
    assert.deepEqual(result, { passed: 3, failed: 0, skipped: 1, status: 0 });
    const titles = [...shown.matchAll(/(?:slow|quick) (?:one|two)/g)].map(([title]) => title);
    assert.deepEqual(titles, ['slow one', 'slow two', 'quick one', 'quick two']);
  });

  it('fails with any of them', async () => {
    const good = part('good', "it('a', () => {});");
    const bad = part('bad', "it('b', () => { throw new Error('no'); });");
    const result = await runParts([good, bad], () => undefined);
    assert.deepEqual(result, { passed: 1, failed: 1, skipped: 0, status: 1 });
  });

  it('shows the failures of an earlier part once more at the end', async () => {
    const bad = part('early', "it('early', () => { throw new Error('no'); });");
    const good = part('late', "it('late', () => {});");
    let shown = '';
    await runParts([bad, good], (text) => (shown += text));
    const [, afterLate = ''] = shown.split('late');
    assert.match(afterLate, /1 failing[^]*early/);
  });

  it('counts a part that dies as a failure', async () => {
    const good = part('good', "it('a', () => {});");
    const dead = part('dead', "it('b', () => process.kill(process.pid, 'SIGKILL'));");
    const result = await runParts([good, dead], () => undefined);
    assert.equal(result.failed, 1);
    assert.notEqual(result.status, 0);
  });
});
