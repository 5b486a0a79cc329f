import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { openLayer } from '../../activities/image/layers/open-layer.js';
import { openImage } from '../../activities/image/open-image.js';
import { planImage } from '../../activities/image/plan-image.js';
import { createFileSource } from './support/file-source.js';
import { makePatterned, makeRaw, MIB, useDirectory } from './support/images.js';
import { refusal } from './support/refused.js';

const DISK_BYTES = 12 * MIB;

describe('an image that is not read any further', function () {
  this.timeout(30_000);
  const directory = useDirectory();
  const at = (name: string): string => `${directory()}/${name}`;
  let already: ReadonlySet<string>;

  before(() => {
    makeRaw(at('noisy.raw'), DISK_BYTES);
    makePatterned(at('dense.raw'), DISK_BYTES / MIB);
    for (const [name, ...options] of [['noisy'], ['dense', '-T0', '--block-size=1MiB']] as const) {
      execFileSync('tar', ['-C', directory(), '-cf', at(`${name}.tar`), `${name}.raw`]);
      for (const file of [`${name}.tar`, `${name}.raw`])
        execFileSync('xz', ['-1', '-k', ...options, at(file)]);
    }
  });

  beforeEach(() => (already = new Set(childProcesses())));

  function childProcesses(): readonly string[] {
    return readdirSync('/proc/self/task').flatMap((thread) => childrenOf(thread));
  }

  function childrenOf(thread: string): readonly string[] {
    try {
      return readFileSync(`/proc/self/task/${thread}/children`, 'utf8').split(' ').filter(Boolean);
    } catch {
      // has ended since it was listed
      return [];
    }
  }

  /** Those of a test: one of an earlier test may end meanwhile. */
  const newChildren = (): readonly string[] => childProcesses().filter((pid) => !already.has(pid));

  async function assertNoChildLeft(): Promise<void> {
    for (let tries = 0; tries < 500 && newChildren().length > 0; tries += 1) await pause(20);
    assert.deepEqual(newChildren(), []);
  }

  // one block that is larger than what a probe reads, and several that all are in it
  for (const name of ['noisy.tar.xz', 'dense.tar.xz', 'dense.raw.xz'])
    for (const ranges of [true, false])
      it(`leaves no xz behind: ${name} ${ranges ? 'behind ranges' : 'from a stream'}`, async () => {
        const source = createFileSource(at(name), { ranges });
        {
          using planned = await planImage(source, { scratch: true });
          assert.equal(planned.facts.format, 'raw');
          assert.ok(newChildren().length > 0, 'xz is at work');
        }
        await assertNoChildLeft();
        source.close();
      });

  it('leaves no xz behind where it is refused', async () => {
    const source = createFileSource(at('noisy.tar.xz'));
    const target = { claimName: 'team-a/vm1', usableBytes: MIB };
    await assert.rejects(
      planImage(source, { scratch: true, target }),
      refusal('LargerPVCRequired', /team-a\/vm1/),
    );
    await assertNoChildLeft();
    await assert.rejects(openImage(source, { format: 'vmdk' }), refusal('UnsupportedFormat', /vmdk/));
    await assertNoChildLeft();
    source.close();
  });

  it('leaves no xz behind where a reader has left its stream', async () => {
    const source = createFileSource(at('noisy.raw.xz'), { ranges: false });
    const layer = await openLayer('xz', source);
    const stream = layer.stream(0)[Symbol.asyncIterator]();
    await stream.next();
    assert.ok(newChildren().length > 0, 'xz is at work');
    layer.close();
    await assertNoChildLeft();
    source.close();
  });
});
