import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { apart, runDvflow } from '../cli/command.js';
import { SOURCE_LOADER } from '../support/source-loader.js';
import { makePatterned, qemuImg, sha256, useDirectory } from './support/images.js';

const MODULES = new URL('../../activities/image/', import.meta.url);

describe('a process that is short of something', function () {
  this.timeout(120_000);
  const directory = useDirectory();

  it('ends its threads, whatever NODE_OPTIONS has them load', async () => {
    const image = `${directory()}/disk.qcow2`;
    const raw = makePatterned(`${directory()}/disk.raw`, 80);
    qemuImg('convert', '-c', '-O', 'qcow2', raw, image);
    const agent = `${directory()}/agent.cjs`;
    writeFileSync(
      agent,
      "if (!require('node:worker_threads').isMainThread) setInterval(() => undefined, 1000);\n",
    );
    const target = `${directory()}/target.raw`;
    const { status, stderr } = runDvflow(['convert', image, target], {
      env: { ...apart(directory()), NODE_OPTIONS: `--require ${agent}` },
      timeoutMs: 60_000,
    });
    assert.equal(status, 0, stderr);
    assert.equal(sha256(target), sha256(raw));
  });

  const spawning = {
    'the xz tool': `
      const { unxz } = await import(${JSON.stringify(new URL('layers/xz-tool.ts', MODULES).href)});
      work = async () => { for await (const _ of unxz([Buffer.alloc(10)])) break; };`,
    'the sandbox of qemu-img': `
      const { findSandbox } = await import(${JSON.stringify(new URL('sandbox/sandbox.ts', MODULES).href)});
      work = () => findSandbox();`,
  };
  for (const [what, load] of Object.entries(spawning))
    it(`lives on without descriptors for ${what}`, () => {
      const program = `
        import { openSync } from 'node:fs';
        let work;
        ${load}
        try { for (;;) openSync('/dev/null'); } catch (error) { console.log(error.code); }
        const ended = await work().then(() => 'done', (error) => error.code ?? error.message);
        await new Promise((resolve) => setTimeout(resolve, 100));
        console.log('lives on:', ended);`;
      const command = [process.execPath, ...SOURCE_LOADER, '--input-type=module', '--eval', program];
      const { stdout, stderr } = spawnSync('prlimit', ['--nofile=128', '--', ...command], {
        encoding: 'utf8',
      });
      assert.match(stdout, /^EMFILE\nlives on: /, stderr);
    });
});
