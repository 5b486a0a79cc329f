import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { failureTypeOf } from '../../activities/failures.js';
import { cases } from '../support/breadth.js';
import { PROPERTY_SEED } from '../support/property-seed.js';
import { convertFile } from './support/convert.js';
import { makeRaw, MIB, qemuImg, sha256, useDirectory } from './support/images.js';

const USABLE = 2 * MIB;

/** Bytes of an image to change: of the header, of the tables, of anything. */
const edits = (bytes: number): fc.Arbitrary<{ at: number; value: number }[]> => {
  const place = fc.oneof(
    fc.integer({ min: 4, max: 111 }),
    fc.integer({ min: 4, max: 64 * 1024 }),
    fc.integer({ min: 4, max: bytes - 1 }),
  );
  return fc.array(fc.record({ at: place, value: fc.integer({ min: 0, max: 255 }) }), {
    minLength: 1,
    maxLength: 6,
  });
};

describe('mutated qcow2 images', function () {
  this.timeout(300_000);
  const directory = useDirectory();
  const variants: Record<string, Buffer> = {};

  before(() => {
    const raw = makeRaw(`${directory()}/disk.raw`, 2 * MIB - 512);
    for (const [name, options] of Object.entries({
      'plain, 4 KiB': ['-o', 'cluster_size=4k'],
      zlib: ['-c', '-o', 'cluster_size=8k'],
      zstd: ['-c', '-o', 'cluster_size=8k,compression_type=zstd'],
      'extended L2': ['-o', 'cluster_size=16k,extended_l2=on'],
    })) {
      qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...options, raw, `${directory()}/seed.qcow2`);
      variants[name] = readFileSync(`${directory()}/seed.qcow2`);
    }
  });

  /** What qemu-img reads from the image, as a digest of the padded disk; absent where it refuses. */
  function oracle(path: string): string | undefined {
    const out = `${path}.expected`;
    try {
      execFileSync('timeout', ['20', 'qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', path, out], {
        stdio: 'pipe',
      });
      truncateSync(out, USABLE);
      return sha256(out);
    } catch {
      return undefined;
    } finally {
      rmSync(out, { force: true });
    }
  }

  async function ours(path: string, ranges: boolean): Promise<string | undefined> {
    const target = `${path}.img`;
    for (const left of [target, `${target}.record`]) if (existsSync(left)) rmSync(left, { recursive: true });
    try {
      await convertFile(path, target, { usableBytes: USABLE, ranges });
      return sha256(target);
    } catch (error) {
      assert.ok(failureTypeOf(error), `not a typed failure: ${String((error as Error).stack)}`);
      return undefined;
    }
  }

  for (const name of ['plain, 4 KiB', 'zlib', 'zstd', 'extended L2']) {
    for (const ranges of [true, false]) {
      it(`fail by type or read as qemu-img reads them (${name}, ${ranges ? 'ranges' : 'stream'})`, async () => {
        const seed = variants[name]!;
        const path = `${directory()}/mutant.qcow2`;
        const property = fc.asyncProperty(edits(seed.length), async (changes) => {
          const image = Buffer.from(seed);
          for (const { at, value } of changes) image[at] = value;
          writeFileSync(path, image);
          const read = await ours(path, ranges);
          const expected = read === undefined ? undefined : oracle(path);
          // QEMU also refuses what a reader has no use for: the place of no snapshots, autoclear bits, refcounts
          if (expected !== undefined) assert.equal(read, expected);
        });
        await fc.assert(property, { numRuns: cases(20, 60), seed: PROPERTY_SEED });
      });
    }
  }
});
