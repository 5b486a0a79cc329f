import assert from 'node:assert/strict';
import { createReadCache } from '../../../activities/image/formats/foreign/read-cache.js';
import type { ImageSource } from '../../../activities/image/source/types.js';
import { MIB } from '../support/images.js';

const KIB = 1024;
const BYTES = 40 * MIB + 777;

/** Each 4 bytes are their own index. */
const content = Buffer.from(
  Uint32Array.from({ length: Math.ceil(BYTES / 4) }, (_, index) => index).buffer,
).subarray(0, BYTES);

/** A source in memory that notes what it is asked for. */
function createSource() {
  const requests: { start: number; length: number }[] = [];
  const source = {
    fail: false,
    requests,
    async readInto(start: number, target: Uint8Array) {
      requests.push({ start, length: target.length });
      await new Promise((resolve) => setImmediate(resolve));
      if (source.fail) throw new Error('the source fails');
      assert.ok(start + target.length <= BYTES, 'nothing is asked for beyond the end');
      target.set(content.subarray(start, start + target.length));
    },
  };
  return source;
}

function open() {
  const source = createSource();
  const cache = createReadCache(source as Partial<ImageSource> as ImageSource, BYTES);
  async function read(offset: number, length: number): Promise<void> {
    const target = Buffer.alloc(length);
    await cache.read(offset, target);
    assert.ok(target.equals(content.subarray(offset, offset + length)), `${offset} + ${length}`);
  }
  return { source, read };
}

describe('the cache in front of a foreign image', () => {
  it('fetches a sequence in a few requests that grow, every byte once', async () => {
    const { source, read } = open();
    for (let at = 0; at < 16 * MIB; at += 30_000) await read(at, 30_000);
    const total = source.requests.reduce((sum, { length }) => sum + length, 0);
    assert.ok(source.requests.length < 50, `${source.requests.length} requests`);
    assert.ok(total < 16 * MIB + 5 * MIB, `${total} bytes`);
    assert.deepEqual(
      source.requests.slice(0, 5).map(({ length }) => length / KIB),
      [64, 128, 256, 512, 512],
    );
  });

  it('is ahead of a reader that goes on', async () => {
    const { source, read } = open();
    for (let at = 0; at < 4 * MIB; at += 64 * KIB) await read(at, 64 * KIB);
    const furthest = Math.max(...source.requests.map(({ start, length }) => start + length));
    assert.ok(furthest >= 7 * MIB, `${furthest}`);
  });

  it('fetches 64 KiB for something small at a place of its own', async () => {
    const { source, read } = open();
    for (const at of [30 * MIB, 5 * MIB + 12_345, 20 * MIB]) await read(at, 512);
    assert.deepEqual(
      source.requests.map(({ length }) => length / KIB),
      [64, 64, 64],
    );
  });

  it('asks once for what many wait for', async () => {
    const { source, read } = open();
    await Promise.all(Array.from({ length: 20 }, () => read(100, 1000)));
    assert.equal(source.requests.length, 1);
  });

  it('hands large reads on as they are', async () => {
    const { source, read } = open();
    await read(5, 2 * MIB);
    assert.deepEqual(source.requests, [{ start: 5, length: 2 * MIB }]);
  });

  it('reads up to the last byte, across pieces', async () => {
    const { read } = open();
    await read(BYTES - 100_000, 100_000);
    await read(64 * KIB - 10, 20);
    await read(0, 200_000);
  });

  it('keeps its pieces apart while more is read than it holds, by many at once', async () => {
    const { read } = open();
    let state = 7;
    const random = (below: number): number =>
      (state = (Math.imul(state, 48_271) >>> 0) % 0x7fff_ffff) % below;
    for (let round = 0; round < 30; round += 1)
      await Promise.all(Array.from({ length: 16 }, () => read(random(BYTES - 70_000), 1 + random(70_000))));
  });

  it('asks again after a failure, which all who waited have seen', async () => {
    const { source, read } = open();
    source.fail = true;
    const results = await Promise.allSettled([read(0, 10), read(20, 10)]);
    assert.ok(results.every(({ status }) => status === 'rejected'));
    source.fail = false;
    await read(0, 10);
    assert.equal(source.requests.length, 2);
  });
});
