import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { crc32, gzipSync, zstdCompressSync } from 'node:zlib';
import { failureTypeOf } from '../../activities/failures.js';
import { createClusterDecoder } from '../../activities/image/decode/cluster-decoder.js';
import { createDecodePool } from '../../activities/image/decode/decode-pool.js';
import { createHostMap } from '../../activities/image/formats/qcow2/host-map.js';
import { readXzIndex } from '../../activities/image/layers/xz-index.js';
import { unxz } from '../../activities/image/layers/xz-tool.js';
import { createFileSource } from './support/file-source.js';
import { convertFile } from './support/convert.js';
import { makePatterned, MIB, qemuImg, qemuIo, sha256, useDirectory } from './support/images.js';

const CLUSTER = 65_536;

describe('images that are odd, but right', function () {
  this.timeout(60_000);
  const directory = useDirectory();

  for (const bytes of [1_048_376, 65_537, 1_023])
    it(`a qcow2 of ${bytes} bytes is a disk of whole sectors, as QEMU reads it`, async () => {
      const image = `${directory()}/odd-${bytes}.qcow2`;
      qemuImg('create', '-f', 'qcow2', image, '1M');
      qemuIo(image, 'qcow2', 'write -P 7 0 1M');
      const content = readFileSync(image);
      content.writeBigUInt64BE(BigInt(bytes), 24);
      writeFileSync(image, content);
      const theirs = `${image}.theirs`;
      qemuImg('convert', '-f', 'qcow2', '-O', 'raw', image, theirs);
      for (const ranges of [true, false]) {
        const ours = `${image}.${ranges ? 'ranged' : 'streamed'}`;
        await convertFile(image, ours, { usableBytes: Infinity, fit: true, ranges });
        assert.equal(sha256(ours), sha256(theirs));
      }
    });

  /** A qcow2 of 1 MiB with clusters of 2 MiB whose header was edited is read as QEMU reads it, by ranges and in order. */
  async function assertReadsEdited(name: string, edit: (header: Buffer) => void): Promise<void> {
    const image = `${directory()}/${name}.qcow2`;
    qemuImg('create', '-f', 'qcow2', '-o', 'cluster_size=2M', image, '1M');
    qemuIo(image, 'qcow2', 'write -P 7 0 1M');
    const content = readFileSync(image);
    edit(content);
    writeFileSync(image, content);
    qemuImg('convert', '-f', 'qcow2', '-O', 'raw', image, `${image}.theirs`);
    for (const ranges of [true, false]) {
      const ours = `${image}.${ranges ? 'ranged' : 'streamed'}`;
      await convertFile(image, ours, { usableBytes: Infinity, fit: true, ranges });
      assert.equal(sha256(ours), sha256(`${image}.theirs`));
    }
  }

  it('a qcow2 without a backing file may say how long the name of none is', () =>
    assertReadsEdited('nameless', (header) => header.writeUInt32BE(0xffff_ffff, 16)));

  it('a qcow2 that says where the name of a backing file is, and no length, has none', () =>
    assertReadsEdited('lengthless', (header) => header.writeBigUInt64BE(512n, 8)));

  it('a qcow2 may have its refcount table beyond the end of the file', () =>
    assertReadsEdited('refcounts-beyond', (header) => header.writeBigUInt64BE(2n ** 40n, 48)));

  for (const { how, ...variant } of [
    { how: 'by ranges', ranges: true, checksum: false },
    { how: 'in order', ranges: true, checksum: true },
    { how: 'in order through scratch', ranges: false, checksum: false },
  ])
    it(`a qcow2 may be many times as long as its disk, of snapshots: ${how}`, async () => {
      const image = `${directory()}/worn.qcow2`;
      qemuImg('create', '-f', 'qcow2', image, '1M');
      qemuIo(image, 'qcow2', 'write -P 7 0 1M');
      qemuImg('snapshot', '-c', 's', image);
      // the state of a machine, as far as any reader of the disk can tell
      truncateSync(image, 96 * MIB);
      const ours = `${image}.img`;
      const options = { usableBytes: MIB, ranges: variant.ranges, scratch: directory() };
      const checksum = variant.checksum ? { checksum: `sha256:${sha256(image)}` } : {};
      await convertFile(image, ours, { ...options, ...checksum });
      assert.deepEqual(readFileSync(ours), Buffer.alloc(MIB, 7));
    });

  it('a raw disk may begin like anything, for whoever asks for raw', async () => {
    const qcow2 = readFileSync(odd('qcow2'));
    for (const [name, begins] of Object.entries({
      qcow2,
      bzip2: Buffer.from('BZh91AY'),
      vma: Buffer.from('VMA\0'),
      html: Buffer.from('<html><body>'),
      descriptor: Buffer.from('# Disk DescriptorFile\n'),
    })) {
      const image = `${directory()}/begins-like-${name}.raw`;
      const content = Buffer.alloc(2 * MIB, 7);
      begins.copy(content);
      writeFileSync(image, content);
      for (const ranges of [true, false]) {
        const ours = `${image}.${ranges ? 'ranged' : 'streamed'}`;
        await convertFile(image, ours, { usableBytes: Infinity, fit: true, ranges, format: 'raw' });
        assert.equal(sha256(ours), sha256(image));
      }
    }
    // containers are taken off all the same
    const packed = `${directory()}/begins-like-bzip2.raw.gz`;
    const inside = readFileSync(`${directory()}/begins-like-bzip2.raw`);
    writeFileSync(packed, gzipSync(inside));
    await convertFile(packed, `${packed}.img`, { usableBytes: Infinity, fit: true, format: 'raw' });
    assert.deepEqual(readFileSync(`${packed}.img`), inside);
  });

  function odd(name: string): string {
    const image = `${directory()}/${name}-in-raw.qcow2`;
    qemuImg('create', '-f', 'qcow2', image, '1M');
    return image;
  }

  for (const bytes of [131_072, 1_100_000])
    it(`a qcow2 may have a header of ${bytes} bytes`, () =>
      assertReadsEdited(`header-${bytes}`, (header) => header.writeUInt32BE(bytes, 100)));

  for (const native of [true, false])
    it(`a zstd cluster may consist of several frames (${native ? 'libzstd' : 'node:zlib'})`, () => {
      const plain = Buffer.alloc(CLUSTER, 'several frames');
      const parts = [plain.subarray(0, 10_000), plain.subarray(10_000, 60_000), plain.subarray(60_000)];
      const frames = parts.map((part) => zstdCompressSync(part));
      const decode = createClusterDecoder('zstd', native);
      const output = Buffer.alloc(CLUSTER);
      assert.equal(decode(Buffer.concat([...frames, Buffer.alloc(100)]), output), 'ok');
      assert.ok(output.equals(plain));
      assert.equal(decode(Buffer.concat(frames.slice(0, 2)), output), 'short');
      assert.equal(decode(Buffer.concat([...frames.slice(0, 2), Buffer.alloc(100)]), output), 'short');
      assert.equal(decode(Buffer.concat(frames), output.subarray(0, 20_000)), 'overflow');
    });

  it('the padding behind an xz is skipped in few requests', async () => {
    const image = `${directory()}/padded.xz`;
    execFileSync('sh', ['-c', `printf hello | xz > ${image} && truncate -s 300M ${image}`]);
    const source = createFileSource(image);
    let reads = 0;
    const counted = {
      ...source,
      readInto: (start: number, target: Uint8Array) => ((reads += 1), source.readInto(start, target)),
    };
    const index = await readXzIndex(counted, 300 * MIB);
    source.close();
    assert.equal(index.uncompressedSize, 5);
    assert.ok(reads < 100, `${reads} requests`);
  });
});

describe('images that would take all there is', function () {
  this.timeout(60_000);
  const directory = useDirectory();

  it('tables that scatter their clusters over all offsets need scratch space, in bounded memory', () => {
    const before = process.memoryUsage();
    const map = createHostMap(CLUSTER, 2 ** 50);
    assert.throws(
      () => {
        for (let index = 1; index < 8_000_000; index += 1)
          map.add(
            { kind: 'data', guest: index * CLUSTER, host: index * 4096 * CLUSTER, length: CLUSTER },
            true,
          );
      },
      (error) => failureTypeOf(error) === 'ScratchSpaceRequired',
    );
    assert.ok(map.rest().length >= 1000);
    const after = process.memoryUsage();
    const grown = after.arrayBuffers - before.arrayBuffers;
    assert.ok(grown <= 66 * MIB, `${grown} bytes of pages`);
  });

  for (const scratch of [true, false])
    it(`what a decompressor makes behind a qcow2 without end is hostile${scratch ? ', in scratch space too' : ''}`, async () => {
      const image = `${directory()}/endless.qcow2`;
      const raw = makePatterned(`${image}.raw`, 1);
      qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, image);
      if (scratch) qemuImg('snapshot', '-c', 'before', image);
      if (scratch) qemuIo(image, 'qcow2', 'write -P 9 0 512k');
      const endless = gzipSync(Buffer.concat([readFileSync(image), Buffer.alloc(200 * MIB)]));
      writeFileSync(`${image}.gz.gz`, gzipSync(endless));
      const failed: unknown = await convertFile(`${image}.gz.gz`, `${image}.img`, {
        usableBytes: 2 * MIB,
        fence: scratch ? 1 : 2,
        ...(scratch ? { scratch: directory() } : {}),
      }).catch((error: unknown) => error);
      assert.equal(failureTypeOf(failed), 'ImageHostile', String(failed));
      assert.match(String(failed), /expands (to more than|beyond) \d+ bytes/u);
    });

  it('an xz that asks for half a GiB of memory is refused', async () => {
    const small = `${directory()}/small.xz`;
    execFileSync('sh', ['-c', `head -c 1000000 /dev/zero | xz -T1 > ${small}`]);
    const bytes = readFileSync(small);
    // dictionary size of the one filter of the block header, then the header's CRC32
    assert.deepEqual([...bytes.subarray(13, 16)], [0, 0x21, 1]);
    bytes[16] = 34;
    bytes.writeUInt32LE(crc32(bytes.subarray(12, 20)), 20);
    async function* chunks(): AsyncGenerator<Buffer> {
      yield bytes;
    }
    const read = async (): Promise<void> => {
      for await (const piece of unxz(chunks())) assert.ok(piece.length > 0);
    };
    await assert.rejects(read(), (error) => failureTypeOf(error) === 'UnsupportedFormat');
  });

  it('a decoding thread that is gone fails what is asked of it, then and later', async () => {
    const pool = createDecodePool({ compression: 'zlib', memory: new SharedArrayBuffer(MIB) }, 1024 * MIB);
    try {
      // beyond the memory: what the thread cannot even look at
      const bad = Float64Array.of(0, 10, 16 * MIB, CLUSTER);
      for (let round = 0; round < 3; round += 1)
        await assert.rejects(pool.decode(bad), (error) => failureTypeOf(error) === 'NodeUnavailable');
    } finally {
      await pool.close();
    }
  });

  it('a decoding thread ends by itself, whatever it is at: a thread stopped inside koffi aborts the process', async () => {
    const codes: number[] = [];
    const memory = new SharedArrayBuffer(MIB);
    const stored = zstdCompressSync(Buffer.alloc(CLUSTER, 7));
    Buffer.from(memory).set(stored);
    // more than a thread decodes before it is asked to end
    const long = new Float64Array(200_000).map((_, at) => [0, stored.length, 512 * 1024, CLUSTER][at % 4]!);
    const watch = (worker: Worker): void => void worker.once('exit', (code) => codes.push(code));
    process.on('worker', watch);
    try {
      for (const delay of [0, 20, 40, 60, 80, 250]) {
        const pool = createDecodePool({ compression: 'zstd', memory }, 1024 * MIB);
        const decoding = assert.rejects(
          pool.decode(long),
          (error) => failureTypeOf(error) === 'NodeUnavailable',
        );
        await setTimeout(delay);
        await Promise.all([decoding, pool.close()]);
      }
    } finally {
      process.off('worker', watch);
    }
    assert.ok(codes.length >= 6 && codes.every((code) => code === 0), codes.join());
  });
});
