import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { runChild, type ChildOptions } from '../../activities/image/child-process.js';
import { useDirectory } from './support/images.js';
import { refusal } from './support/refused.js';

/** A job for programs that do not read it. */
const NOTHING = {
  job: { request: { kind: 'http' } } as ChildOptions['job'],
  fds: { file: 0, directory: 0, record: 0, lock: 0 },
};

describe('runChild', function () {
  this.timeout(120_000);
  const directory = useDirectory();

  it('names the program that cannot be started', async () => {
    const { PATH } = process.env;
    process.env['PATH'] = '/nonexistent';
    try {
      const running = runChild({
        ...NOTHING,
        signal: new AbortController().signal,
        onProgress: () => undefined,
      });
      const message = /^the transfer process cannot be started: setpriv: Error ENOENT$/;
      await assert.rejects(running, refusal('NodeUnavailable', message, false));
    } finally {
      process.env['PATH'] = PATH;
    }
  });

  for (const [message, outcome] of [
    ['{"result":{"virtualSize":1}}', 'a result'],
    ['{"failure":{"type":"LargerPVCRequired","message":"too large","permanent":true}}', 'a failure'],
  ] as const)
    it(`waits for no end of a process that has said ${outcome}: Node may not come to it`, async () => {
      const path = `${directory()}/never-ends.mjs`;
      const lines = `console.log('{"progress":{}}'); console.log(${JSON.stringify(message)}); setInterval(() => 0, 1000);`;
      writeFileSync(path, lines);
      const said: unknown[] = [];
      const running = runChild({
        ...NOTHING,
        path,
        signal: AbortSignal.timeout(60_000),
        onProgress: (progress) => said.push(progress),
      });
      if (outcome === 'a result') assert.deepEqual(await running, { virtualSize: 1 });
      else await assert.rejects(running, refusal('LargerPVCRequired', /^too large$/, true));
      assert.deepEqual(said, [{}]);
      const left = spawnSync('pgrep', ['-f', path], { encoding: 'utf8' });
      assert.equal(left.stdout, '', 'it is gone');
    });
});
