import assert from 'node:assert/strict';
import { gathered } from '../../activities/image/layers/gathered.js';
import { unzstd } from '../../activities/image/layers/zstd.js';
import { gather, inChunks } from './archive/tar.js';
import { refusal } from './support/refused.js';

const KIB = 1024;

/** Frame header of a window of 128 KiB and no content size, then raw blocks (RFC 8878 §3.1.1). */
function frame(blocks: readonly Buffer[], { last = true } = {}): Buffer {
  const written = blocks.flatMap((block, index) => {
    const header = Buffer.alloc(3);
    header.writeUIntLE((block.length << 3) | Number(last && index === blocks.length - 1), 0, 3);
    return [header, block];
  });
  return Buffer.concat([Buffer.from('28b52ffd0038', 'hex'), ...written]);
}

const chunks = (bytes: Buffer): AsyncGenerator<Buffer> => inChunks(bytes, 4 * KIB);

describe('zstd of very small blocks', () => {
  it('is the same bytes, a hundred thousand of them', async () => {
    const blocks = Array.from({ length: 100_000 }, (_, index) => Buffer.of(index & 0xff));
    assert.deepEqual(await gather(unzstd(chunks(frame(blocks)))), Buffer.concat(blocks));
  });

  it('is refused where blocks that hold nothing have no end', async () => {
    const empty = Array.from({ length: 100_000 }, () => Buffer.alloc(0));
    await assert.rejects(
      gather(unzstd(chunks(frame(empty)))),
      refusal('ImageHostile', /zstd frame has more than 100 parts in a row that hold nothing/),
    );
    const few = [...empty.slice(0, 50), Buffer.from('disk')];
    assert.equal((await gather(unzstd(chunks(frame(few))))).toString(), 'disk');
  });

  it('gives all that came before its end where it is cut short', async () => {
    const bytes = frame([Buffer.alloc(10 * KIB, 1), Buffer.alloc(10 * KIB, 2)], { last: false });
    let length = 0;
    const read = async (): Promise<void> => {
      for await (const piece of unzstd(chunks(bytes))) length += piece.length;
    };
    await assert.rejects(read(), refusal('ImageInvalid', /zstd stream is cut short/));
    assert.equal(length, 20 * KIB);
  });
});

describe('pieces for a decoder', () => {
  it('are put together up to 64 KiB, and one that is as large stays what it is', async () => {
    const large = Buffer.alloc(100 * KIB, 1);
    async function* pieces(): AsyncGenerator<Buffer> {
      yield large;
      for (let count = 0; count < 50; count += 1) yield Buffer.alloc(3 * KIB, 2);
    }
    const found: Buffer[] = [];
    for await (const piece of gathered(pieces())) found.push(piece);
    assert.equal(found[0], large);
    assert.deepEqual(
      found.map(({ length }) => length / KIB),
      [100, 66, 66, 18],
    );
  });

  it('come before the error that ends them', async () => {
    const found: string[] = [];
    async function* broken(): AsyncGenerator<Buffer> {
      yield Buffer.from('a');
      yield Buffer.from('b');
      throw new Error('lost');
    }
    const read = async (): Promise<void> => {
      for await (const piece of gathered(broken())) found.push(piece.toString());
    };
    await assert.rejects(read(), /lost/);
    assert.deepEqual(found, ['ab']);
  });
});
