import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, rmSync, statSync } from 'node:fs';
import { findSandbox, type Sandbox } from '../../../activities/image/sandbox/sandbox.js';
import { failureTypeOf } from '../../../activities/failures.js';
import { MIB, qemuImg, qemuIo, useDirectory } from '../support/images.js';
import { copyFile, stretchesOf } from './support.js';

const GIB = 1024 * MIB;
const TIB = 1024 * GIB;

describe('holes of foreign images', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const target = (): string => `${directory()}/target`;
  beforeEach(() => rmSync(target(), { force: true }));

  /** A VHDX with a MiB of another byte at each offset. */
  function makeVhdx(bytes: number, offsets: readonly number[], options = 'subformat=dynamic'): string {
    const path = `${directory()}/holes.vhdx`;
    qemuImg('create', '-f', 'vhdx', '-o', options, path, `${bytes}`);
    qemuIo(path, 'vhdx', ...offsets.map((offset, index) => `write -P ${index + 1} ${offset} 1M`));
    return path;
  }

  function assertHolds(path: string, offsets: readonly number[]): void {
    const file = openSync(path, 'r');
    for (const [index, offset] of offsets.entries()) {
      const found = Buffer.alloc(MIB);
      readSync(file, found, 0, MIB, offset);
      assert.ok(found.equals(Buffer.alloc(MIB, index + 1)), `at ${offset}`);
    }
    closeSync(file);
    assert.equal(statSync(path).blocks * 512, offsets.length * MIB);
  }

  /** Where the copies that a sandbox ran began. */
  async function watched(): Promise<{ sandbox: Sandbox; starts: number[] }> {
    const real = await findSandbox();
    const starts: number[] = [];
    return {
      starts,
      sandbox: {
        run(program) {
          starts.push(Number(/offset=(\d+)/.exec(program.args.at(-1) ?? '')?.[1]));
          return real.run(program);
        },
      },
    };
  }

  it('in a VHDX are passed over, however large they are', async () => {
    const offsets = [0, 3 * GIB, 5 * TIB + MIB, 8 * TIB - MIB];
    const image = makeVhdx(8 * TIB, offsets);
    const { sandbox, starts } = await watched();
    const told: number[] = [];
    const options = { mostBytes: 8 * TIB, sandbox, onCheckpoint: (at: number) => told.push(at) };
    await copyFile('vhdx', image, target(), options);
    assertHolds(target(), offsets);
    assert.equal(statSync(target()).size, 8 * TIB);
    // two that are near to each other are one; blocks have 1 to 256 MiB
    assert.equal(starts.length, 3, String(starts));
    assert.ok(
      starts.every((start) => told.includes(start)),
      'they count as done',
    );
  });

  it('in a VHDX are passed over by an attempt that goes on', async () => {
    const offsets = [GIB, 3 * TIB];
    const image = makeVhdx(4 * TIB, offsets);
    const { sandbox, starts } = await watched();
    const options = { mostBytes: 4 * TIB, sandbox };
    await copyFile('vhdx', image, target(), options);
    await copyFile('vhdx', image, target(), { ...options, completed: 3 * TIB + 65_536 });
    assert.deepEqual(starts, [GIB, 3 * TIB, 3 * TIB + 65_536]);
    assertHolds(target(), offsets);
  });

  it('in a VHDX are found behind the entries of bitmaps', async () => {
    // blocks of 1 MiB: one entry in 4097 is a bitmap's
    const offsets = [4095 * MIB, 4096 * MIB, 8191 * MIB, 3 * 4096 * MIB, 20 * GIB];
    const image = makeVhdx(20 * GIB + MIB, offsets, 'block_size=1M');
    assert.deepEqual(await stretchesOf('vhdx', image), [
      { start: 4095 * MIB, end: 8192 * MIB },
      { start: 3 * 4096 * MIB, end: 3 * 4096 * MIB + MIB },
      { start: 20 * GIB, end: 20 * GIB + MIB },
    ]);
  });

  it('are all that an empty VHDX has', async () => {
    const { sandbox, starts } = await watched();
    await copyFile('vhdx', makeVhdx(TIB, []), target(), { mostBytes: TIB, sandbox });
    assert.deepEqual(starts, []);
    assert.equal(statSync(target()).size, TIB);
  });

  describe('that qemu-img passes over by itself, asking for nothing,', () => {
    /** A copy whose `qemu-img` is a script. */
    async function copyBy(script: string, options: { silentSeconds?: number } = {}): Promise<unknown> {
      const image = `${directory()}/small.vdi`;
      qemuImg('create', '-f', 'vdi', image, '1M');
      const real = await findSandbox();
      const sandbox: Sandbox = {
        run: (program) => real.run({ ...program, file: 'bash', args: ['-c', script] }),
      };
      return await copyFile('vdi', image, target(), { sandbox, stallMs: 1000, ...options });
    }
    const busyFor = (seconds: number): string => `while [ $SECONDS -lt ${seconds} ]; do :; done`;

    it('are no reason to end it while it works', async () => {
      await copyBy(busyFor(4));
    });

    for (const [what, script, options] of [
      ['where it does not work', 'sleep 20 & wait', {}],
      ['where it works for longer than any hole takes', busyFor(20), { silentSeconds: 2 }],
    ] as const)
      it(`end ${what}`, async () => {
        await assert.rejects(copyBy(script, options), (error) => {
          assert.match(String(error), /qemu-img did nothing for 1 s and was ended/);
          return failureTypeOf(error) === 'NodeUnavailable';
        });
      });
  });
});
