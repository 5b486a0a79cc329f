import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { statSync, writeFileSync } from 'node:fs';
import { planSteadily } from '../../activities/image/plan-image.js';
import { startFileServer } from '../support/servers/index.js';
import { useBench } from './source/open.js';
import { MIB, qemuImg, useDirectory } from './support/images.js';

/** What an inspection may read where ranges work. */
const MOST_READ = 2 * MIB;
const DISK = 6 * MIB;

/** Lines for bash that wrap `disk.raw` or `disk.qcow2`, neither of which can be compressed, and what is found inside. */
const WRAPPED: Readonly<Record<string, { script: string; format: string }>> = {
  'raw.gz': { script: 'gzip -1 -c disk.raw', format: 'raw' },
  'raw.xz in blocks': { script: 'xz -0 -T2 --block-size=2MiB -c disk.raw', format: 'raw' },
  'raw.xz in one block': { script: 'xz -0 -c disk.raw', format: 'raw' },
  'qcow2.zst': { script: 'zstd -q -1 -c disk.qcow2', format: 'qcow2' },
  'tar with a sparse file': { script: 'tar -cS disk.raw', format: 'raw' },
  'tar.gz': { script: 'tar -c disk.qcow2 | gzip -1', format: 'qcow2' },
  'tar.xz in blocks': { script: 'tar -c disk.qcow2 | xz -0 -T2 --block-size=2MiB', format: 'qcow2' },
  'tar.xz in one block': { script: 'tar -c disk.raw | xz -0', format: 'raw' },
  'tar.zst': { script: 'tar -c ./disk.raw | zstd -q -1', format: 'raw' },
  'zip, deflated': { script: 'zip -q -1 - disk.qcow2', format: 'qcow2' },
  'zip, stored': { script: 'zip -q -0 disk.zip disk.raw; cat disk.zip', format: 'raw' },
};

describe('an inspection behind ranges', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const bench = useBench();

  before(() => {
    writeFileSync(`${directory()}/disk.raw`, randomBytes(DISK));
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', `${directory()}/disk.raw`, `${directory()}/disk.qcow2`);
  });

  for (const [name, { script, format }] of Object.entries(WRAPPED))
    it(`reads at most 2 MiB of a ${name}`, async () => {
      const file = `${directory()}/wrapped`;
      execFileSync('bash', ['-euo', 'pipefail', '-c', `(${script}) > wrapped`], { cwd: directory() });
      assert.ok(statSync(file).size > DISK);
      const { url } = await bench.serve(startFileServer({ path: file }));
      const { source } = await bench.openRequest({
        kind: 'http',
        url,
        headers: [],
        secretHeaders: [],
        insecureSkipVerify: false,
      });
      using planned = await planSteadily(source, { scratch: true });
      assert.equal(planned.facts.format, format);
      assert.ok(source.bytesRead <= MOST_READ, `${source.bytesRead} bytes read`);
    });
});
