import assert from 'node:assert/strict';
import {
  closeSync,
  ftruncateSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { crc32 } from 'node:zlib';
import { failureTypeOf } from '../../activities/failures.js';
import { readXzIndex, type XzIndex } from '../../activities/image/layers/xz-index.js';
import { createFileSource } from './support/file-source.js';
import { makePatterned, MIB, useDirectory } from './support/images.js';
import { piped } from './support/ways.js';

const FLAGS = Buffer.from([0, 1]);

/** A size as the format writes it. */
function integer(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  return Buffer.from([...bytes, rest]);
}

/** A stream whose index names `count` blocks of these sizes; the blocks themselves are a hole. */
interface Stream {
  readonly count: number;
  readonly unpadded: number;
  readonly plain: number;
}

function writeStreams(path: string, streams: readonly Stream[]): void {
  const file = openSync(path, 'w');
  let at = 0;
  for (const { count, unpadded, plain } of streams) {
    const header = Buffer.concat([Buffer.from('fd377a585a00', 'hex'), FLAGS, Buffer.alloc(4)]);
    header.writeUInt32LE(crc32(FLAGS), 8);
    writeSync(file, header, 0, header.length, at);
    at += header.length + count * Math.ceil(unpadded / 4) * 4;
    const record = Buffer.concat([integer(unpadded), integer(plain)]);
    const records = Buffer.alloc(count * record.length, record);
    const body = Buffer.concat([Buffer.of(0), integer(count), records]);
    const index = Buffer.alloc(Math.ceil(body.length / 4) * 4 + 4);
    body.copy(index);
    index.writeUInt32LE(crc32(index.subarray(0, -4)), index.length - 4);
    const footer = Buffer.concat([Buffer.alloc(8), FLAGS, Buffer.from('YZ')]);
    footer.writeUInt32LE(index.length / 4 - 1, 4);
    footer.writeUInt32LE(crc32(footer.subarray(4, 10)), 0);
    writeSync(file, index, 0, index.length, at);
    writeSync(file, footer, 0, footer.length, at + index.length);
    at += index.length + footer.length;
  }
  ftruncateSync(file, at);
  closeSync(file);
}

describe('the index of an xz', function () {
  this.timeout(60_000);
  const directory = useDirectory();

  async function read(path: string): Promise<XzIndex> {
    const source = createFileSource(path);
    try {
      return await readXzIndex(source, statSync(path).size);
    } finally {
      source.close();
    }
  }

  async function readStreams(streams: readonly Stream[]): Promise<XzIndex> {
    const path = `${directory()}/index.xz`;
    writeStreams(path, streams);
    return await read(path);
  }

  it('places the blocks of all streams one behind the other', async () => {
    const { blocks, uncompressedSize } = await readStreams([
      { count: 2, unpadded: 70, plain: 1000 },
      { count: 0, unpadded: 5, plain: 0 },
      { count: 1, unpadded: 5, plain: 7 },
    ]);
    assert.equal(uncompressedSize, 2007);
    const found = Array.from({ length: blocks?.count ?? 0 }, (_, index) => blocks?.at(index));
    const flags = 1;
    const large = { unpaddedSize: 70, uncompressedSize: 1000, flags };
    assert.deepEqual(found, [
      { inner: 12, outer: 0, ...large },
      { inner: 12 + 72, outer: 1000, ...large },
      // behind index and footer, a stream of 32 bytes without blocks, and its own header
      {
        inner: 12 + 144 + 12 + 12 + 32 + 12,
        outer: 2000,
        unpaddedSize: 5,
        uncompressedSize: 7,
        flags,
      },
    ]);
  });

  it('counts the blocks of a file that xz made', async () => {
    const image = `${directory()}/disk.xz`;
    const raw = makePatterned(`${directory()}/disk.raw`, 3);
    piped('xz -0 -T1 --block-size=100KiB')(raw, image);
    const { blocks, uncompressedSize } = await read(image);
    assert.equal(blocks?.count, Math.ceil((3 * MIB) / (100 * 1024)));
    assert.equal(uncompressedSize, 3 * MIB);
  });

  // integers lie across the pieces in which it is read
  for (const streams of [1, 3])
    it(`of millions of blocks in ${streams} stream(s) gives only the size, and takes no memory`, async () => {
      const count = 3_000_000 / streams;
      const path = `${directory()}/many-${streams}.xz`;
      writeStreams(path, Array<Stream>(streams).fill({ count, unpadded: 300, plain: 70_000 }));
      const before = process.memoryUsage();
      const index = await read(path);
      const after = process.memoryUsage();
      assert.deepEqual(index, { uncompressedSize: count * streams * 70_000 });
      const grown = after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers;
      assert.ok(grown < 64 * MIB, `${grown} bytes`);
    });

  describe('of many streams', () => {
    const KIB = 1024;

    /** What a walk gives, and what it takes. */
    async function walk(streams: readonly Stream[]): Promise<XzIndex & { requests: number; bytes: number }> {
      const path = `${directory()}/walk.xz`;
      writeStreams(path, streams);
      const source = createFileSource(path);
      let requests = 0;
      const readInto = (start: number, target: Uint8Array): Promise<void> => {
        requests += 1;
        return source.readInto(start, target);
      };
      try {
        const index = await readXzIndex({ ...source, readInto }, statSync(path).size);
        return { ...index, requests, bytes: source.bytesRead };
      } finally {
        source.close();
      }
    }
    const many = (streams: number, kibibytes: number): Stream[] =>
      Array<Stream>(streams).fill({ count: 1, unpadded: kibibytes * KIB, plain: 100 * KIB });

    it('that are near to each other takes few requests', async () => {
      const { blocks, requests } = await walk(many(400, 15));
      assert.equal(blocks?.count, 400);
      assert.equal(blocks.at(399).inner, 399 * (15 * KIB + 12 + 12 + 12) + 12);
      assert.ok(requests < 8, `${requests} requests`);
    });

    it('that are far from each other takes one for each of them', async () => {
      const { blocks, requests, bytes } = await walk(many(60, 24 * KIB));
      assert.equal(blocks?.count, 60);
      assert.ok(requests <= 61 && bytes <= 61 * 64 * KIB, `${requests} requests, ${bytes} bytes`);
    });

    it('that are of 2 MiB, as tools on several cores make them, is worth it', async () => {
      const { blocks } = await walk(many(200, 2 * KIB));
      assert.equal(blocks?.count, 200);
    });

    for (const [streams, kibibytes] of [
      [2000, 50],
      [500, 300],
      [400, 500],
    ] as const)
      it(`is left alone where it would take much of the file: ${streams} of ${kibibytes} KiB`, async () => {
        const { blocks, uncompressedSize, requests, bytes } = await walk(many(streams, kibibytes));
        assert.deepEqual([blocks, uncompressedSize], [undefined, undefined]);
        assert.ok(requests < 80 && bytes < 20 * MIB, `${requests} requests, ${bytes} bytes`);
      });

    it('is left alone where they are too many to be counted', async () => {
      const { uncompressedSize, requests } = await walk(many(10_001, 0.01));
      assert.equal(uncompressedSize, undefined);
      assert.ok(requests < 8, `${requests} requests`);
    });
  });

  it('is bounded over all streams together, not for each of them', async () => {
    const stream = { count: 17_000_000, unpadded: 5, plain: 1 };
    await assert.rejects(readStreams([stream, stream]), (error) => {
      assert.match(String(error), /xz index has 34000012 bytes, 33108852 are left for it/u);
      return failureTypeOf(error) === 'ImageInvalid';
    });
  });

  it('is refused where it is damaged', async () => {
    const path = `${directory()}/index.xz`;
    writeStreams(path, [{ count: 2, unpadded: 5, plain: 1 }]);
    const good = readFileSync(path);
    const start = good.length - 12 - 12;
    const cases: readonly (readonly [what: string, at: number, value: number, proved: boolean])[] = [
      ['indicator', 0, 1, true],
      ['more blocks than it has bytes', 1, 100, true],
      ['fewer blocks than it has records', 1, 1, true],
      ['a block too small', 2, 4, true],
      ['a record', 3, 2, false],
      ['padding', 6, 1, true],
      ['check sum', 8, good.readUInt8(start + 8) ^ 1, false],
    ];
    for (const [what, at, value, proved] of cases) {
      const bad = Buffer.from(good);
      bad[start + at] = value;
      if (proved) bad.writeUInt32LE(crc32(bad.subarray(start, start + 8)), start + 8);
      writeFileSync(path, bad);
      await assert.rejects(read(path), (error) => failureTypeOf(error) === 'ImageInvalid', what);
    }
  });
});
