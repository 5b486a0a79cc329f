import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { zstdCompressSync } from 'node:zlib';
import { failureTypeOf } from '../../activities/failures.js';
import { createOrderDecoder } from '../../activities/image/decode/decode-order.js';
import type { DecodePool } from '../../activities/image/decode/decode-pool.js';
import { createFramePool } from '../../activities/image/decode/frame-pool.js';
import { zstdFrame } from '../../activities/image/decode/zstd-frame.js';
import { createRandom } from '../support/random.js';
import { MIB } from './support/images.js';

const CLUSTER = 65_536;
const OUTPUT = 8 * MIB;

/** Clusters in memory: the stored bytes from its beginning, the places of what they hold from {@link OUTPUT}. */
function lay(stored: readonly Buffer[], { padding = 0 } = {}) {
  const memory = new SharedArrayBuffer(2 * OUTPUT);
  const entries: number[] = [];
  let at = 0;
  for (const [index, bytes] of stored.entries()) {
    Buffer.from(memory).set(bytes, at);
    // as an L2 entry tells it: to the end of a sector, in which the next one begins
    entries.push(at, bytes.length + 300, OUTPUT + index * CLUSTER, CLUSTER);
    at += bytes.length + padding;
  }
  return { memory, entries: Float64Array.from(entries) };
}

const plain = (index: number): Buffer =>
  Buffer.concat([
    createHash('sha256').update(String(index)).digest(),
    Buffer.alloc(CLUSTER / 2 - 32, index),
    Buffer.from(Array.from({ length: CLUSTER / 2 }, (_, at) => (at * index) % 251)),
  ]);

describe('zstd clusters that are decoded many at once', function () {
  this.timeout(30_000);
  let scattered = 0;
  const pools: DecodePool[] = [];

  function poolOver(memory: SharedArrayBuffer): DecodePool {
    const inline = createOrderDecoder({ compression: 'zstd', memory });
    const pool = createFramePool({ compression: 'zstd', memory }, () => ({
      decode: async (entries) => {
        scattered += 1;
        return inline(entries);
      },
      close: async () => undefined,
    }));
    assert.ok(pool, 'libzstd is one of the packages that tests need');
    pools.push(pool);
    return pool;
  }

  beforeEach(() => (scattered = 0));
  afterEach(() => Promise.all(pools.splice(0).map((pool) => pool.close())));

  for (const [name, padding] of [
    ['that follow each other', 0],
    ['with bytes between them', 17],
  ] as const)
    it(`are what each is alone: ${name}`, async () => {
      const { memory, entries } = lay(
        Array.from({ length: 64 }, (_, index) => zstdCompressSync(plain(index))),
        { padding },
      );
      assert.equal(await poolOver(memory).decode(entries), undefined);
      for (let index = 0; index < 64; index += 1)
        assert.ok(Buffer.from(memory, OUTPUT + index * CLUSTER, CLUSTER).equals(plain(index)), `${index}`);
      assert.equal(scattered, padding === 0 ? 0 : 1);
    });

  it('may each go to a place of its own', async () => {
    const { memory, entries } = lay(Array.from({ length: 8 }, (_, index) => zstdCompressSync(plain(index))));
    for (let index = 0; index < 8; index += 1) entries[index * 4 + 2] = OUTPUT + (7 - index) * CLUSTER;
    assert.equal(await poolOver(memory).decode(entries), undefined);
    for (let index = 0; index < 8; index += 1)
      assert.ok(Buffer.from(memory, OUTPUT + (7 - index) * CLUSTER, CLUSTER).equals(plain(index)));
    assert.equal(scattered, 0);
  });

  it('do not lend each other bytes: a frame that holds too much before one that holds too little', async () => {
    const both = Buffer.concat([plain(1), plain(2)]);
    const stored = [both.subarray(0, 96 * 1024), both.subarray(96 * 1024)].map((part) =>
      zstdCompressSync(part),
    );
    const { memory, entries } = lay([zstdCompressSync(plain(0)), ...stored, zstdCompressSync(plain(3))]);
    assert.deepEqual(await poolOver(memory).decode(entries), { index: 1, outcome: 'overflow' });
  });

  it('tell the first of several that are damaged, as one by one', async () => {
    const random = createRandom('frames/1');
    const pick = (below: number): number => random.integer(0, below - 1);
    for (let round = 0; round < 20; round += 1) {
      const stored = Array.from({ length: 24 }, (_, index) => zstdCompressSync(plain(index + round)));
      for (let hit = pick(3); hit >= 0; hit -= 1) {
        const one = stored[pick(stored.length)];
        if (one) one[pick(one.length)] = pick(256);
      }
      const { memory, entries } = lay(stored);
      const expected = createOrderDecoder({ compression: 'zstd', memory })(entries);
      const disk = Buffer.from(Buffer.from(memory, OUTPUT, 24 * CLUSTER));
      Buffer.from(memory, OUTPUT).fill(0);
      assert.deepEqual(await poolOver(memory).decode(entries), expected, `round ${round}`);
      if (!expected) assert.ok(Buffer.from(memory, OUTPUT, 24 * CLUSTER).equals(disk), `round ${round}`);
    }
  });

  it('are rejected when the pool is closed before their turn, and those that are being decoded are awaited', async () => {
    const { memory, entries } = lay(
      Array.from({ length: 120 }, (_, index) => zstdCompressSync(plain(index))),
    );
    const pool = poolOver(memory);
    const orders = Array.from({ length: 8 }, () => pool.decode(entries).then(() => 'decoded', failureTypeOf));
    await pool.close();
    const outcomes = await Promise.all(orders);
    assert.ok(
      outcomes.includes('NodeUnavailable') &&
        outcomes.every((one) => one === 'decoded' || one === 'NodeUnavailable'),
    );
  });
});

describe('the header of a zstd frame', () => {
  it('tells the length of frame and content, for each size of the field', () => {
    for (const bytes of [0, 1, 255, 256, 65_536, 65_791, 65_792, 3 * MIB]) {
      const frame = zstdCompressSync(Buffer.alloc(bytes, 7));
      const { length } = frame;
      assert.deepEqual(zstdFrame(Buffer.concat([frame, Buffer.alloc(9, 1)])), {
        bytes: length,
        contentBytes: bytes,
      });
      assert.equal(zstdFrame(frame.subarray(0, length - 1)), undefined);
    }
  });
});
