import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { deflateRawSync } from 'node:zlib';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Extent } from '../../activities/image/formats/qcow2/mapping.js';
import { planRequests } from '../../activities/image/host-requests.js';
import type { Sink } from '../../activities/image/progress.js';
import { copyRanged, rawMap, WINDOW, type DiskMap } from '../../activities/image/ranged.js';
import type { ImageSource } from '../../activities/image/source/types.js';
import type { SparseWriter } from '../../activities/image/writer.js';

const WINDOWS = 40;
/** Windows that the pool holds. */
const POOL = 8;

describe('copyRanged', () => {
  it('fetches no more than its pool ahead of a window that stalls', async () => {
    const stalled = Promise.withResolvers<void>();
    let fetched = 0;
    const readInto: ImageSource['readInto'] = async (start, target) => {
      if (start < WINDOW) await stalled.promise;
      fetched += target.length;
    };
    const recorded: number[] = [];
    const sink = sinkOf(
      async () => undefined,
      (completed) => recorded.push(completed),
    );
    const fileBytes = WINDOWS * WINDOW;
    const source = { readInto } as Partial<ImageSource> as ImageSource;
    const copying = copyRanged({ map: rawMap(fileBytes), source, fileBytes }, sink);
    while (fetched < (POOL - 1) * WINDOW) await sleep(5);
    await sleep(100);
    assert.equal(fetched / WINDOW, POOL - 1);
    assert.equal(recorded.at(-1), 0);
    stalled.resolve();
    assert.deepEqual(await copying, { virtualSize: fileBytes });
    assert.equal(recorded.at(-1), fileBytes);
    assert.equal(fetched, fileBytes);
  });

  it('decodes what does not fit beside a window, in rounds', async () => {
    const plain = Buffer.concat([randomBytes(64), Buffer.alloc(CLUSTER - 64)]);
    const stored = deflateRawSync(plain);
    // as much as an entry may claim, with gaps between
    const stride = 3 * CLUSTER;
    const clusters = (2 * WINDOW) / CLUSTER;
    const extents = Array.from({ length: clusters }, (_, index): Extent => {
      const place = { guest: index * CLUSTER, host: index * stride };
      return { kind: 'compressed', ...place, length: 2 * CLUSTER };
    });
    const disk = await copy(
      { extents, fileBytes: clusters * stride, clusters: { size: CLUSTER, compression: 'zlib' } },
      (start, target) => {
        for (let at = -start % stride; at < target.length; at += stride)
          if (at >= 0) stored.copy(target, at);
          else stored.copy(target, 0, -at);
      },
    );
    assert.equal(disk.length, 2 * WINDOW);
    for (let at = 0; at < disk.length; at += CLUSTER)
      assert.ok(plain.equals(disk.subarray(at, at + CLUSTER)), `cluster ${at / CLUSTER}`);
  });

  it('asks for the small clusters of a window a few at a time', async () => {
    const stride = 66 * 1024;
    const extents = Array.from({ length: WINDOW / 1024 }, (_, index): Extent => {
      const place = { guest: index * 1024, host: index * stride };
      return { kind: 'data', ...place, length: 1024 };
    });
    let open = 0;
    let most = 0;
    const disk = await copy({ extents, fileBytes: extents.length * stride }, async (start, target) => {
      most = Math.max(most, ++open);
      await new Promise(setImmediate);
      target.fill(start / stride);
      open -= 1;
    });
    assert.ok(most <= 16, `${most} at once`);
    extents.forEach(({ guest }, index) => assert.equal(disk[guest + 1023], index % 256));
  });
});

describe('requests of a window', () => {
  it('never fetch more dead bytes than live ones, however the image is scattered', () => {
    const run: Extent = { kind: 'compressed', guest: 0, host: 0, length: 64 * 1024 };
    const scattered = Array.from({ length: 200 }, (_, index): Extent => {
      const host = 64 * 1024 + (index + 1) * 60 * 1024;
      return { kind: 'data', guest: (index + 128) * 512, host, length: 512 };
    });
    const extents = [run, ...scattered];
    const requests = [...planRequests(extents, 1 << 30)];
    const live = extents.reduce((sum, { length }) => sum + length, 0);
    const fetched = requests.reduce((sum, { start, end }) => sum + end - start, 0);
    assert.ok(fetched <= 2 * live, `${fetched} bytes for ${live}`);
    assert.equal(requests.flatMap((request) => request.extents).length, extents.length);
  });
});

const CLUSTER = 64 * 1024;

function sinkOf(
  cover: SparseWriter['cover'],
  checkpoint: (completed: number) => void = () => undefined,
): Sink {
  return {
    writer: { cover, zero: async () => undefined } as Partial<SparseWriter> as SparseWriter,
    diskBytes: Infinity,
    existing: false,
    completed: 0,
    signal: new AbortController().signal,
    at: () => undefined,
    checkpoint: async (completed) => checkpoint(completed),
  };
}

/** Copies a disk of these extents out of a file that `read` stands for. */
async function copy(
  {
    extents,
    fileBytes,
    clusters,
  }: { extents: readonly Extent[]; fileBytes: number; clusters?: DiskMap['clusters'] },
  read: (start: number, target: Uint8Array) => void | Promise<void>,
): Promise<Buffer> {
  const virtualSize = Math.max(...extents.map(({ guest }) => guest)) + (clusters?.size ?? 1024);
  const disk = Buffer.alloc(virtualSize);
  const map: DiskMap = {
    virtualSize,
    extents: async (start, end) => extents.filter(({ guest }) => guest >= start && guest < end),
    ...(clusters ? { clusters } : {}),
  };
  const source = {
    readInto: async (start, target) => await read(start, target),
  } as Partial<ImageSource> as ImageSource;
  const sink = sinkOf(async (start, piece) => void piece.copy(disk, start));
  await copyRanged({ map, source, fileBytes }, sink);
  return disk;
}
