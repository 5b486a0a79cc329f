import assert from 'node:assert/strict';
import { readTar } from '../../../activities/image/archive/tar-reader.js';
import { collectGarbage } from '../../support/garbage.js';
import { MIB } from '../support/images.js';
import { refusal } from '../support/refused.js';
import {
  gather,
  inChunks,
  paxHeader,
  readArchive,
  sparsePairs,
  tarArchive,
  tarEntry,
  tarHeader,
  type ReadEntry,
} from './tar.js';

describe('tar reader, on damaged and hostile archives', () => {
  const read = (...entries: readonly Buffer[]): Promise<ReadEntry[]> =>
    readArchive(inChunks(tarArchive(...entries)));

  it('is cut short wherever it ends inside an entry', async () => {
    const archive = tarArchive(
      paxHeader([['path', 'renamed']]),
      tarEntry({ name: 'a' }, Buffer.alloc(700, 'a')),
      tarEntry({ name: 'long', type: 'L' }, `${'n'.repeat(600)}\0`),
      tarEntry({ name: 'b' }, 'b'),
    );
    const boundaries = [1024 + 1536, archive.length - 1024, archive.length - 512];
    for (let length = 4; length < archive.length; length += 4) {
      const reading = readArchive(inChunks(archive.subarray(0, length), 200));
      if (boundaries.includes(length)) await reading;
      else if (length < archive.length - 512)
        await assert.rejects(reading, refusal('ImageInvalid', /cut short/), `${length}`);
    }
    await assert.rejects(readArchive(inChunks(Buffer.alloc(0))), refusal('ImageInvalid', /is empty/));
  });

  it('checksum-wrong: refused, wherever the header is', async () => {
    const damaged = tarEntry({ name: 'b' });
    damaged[1] = 0x41;
    await assert.rejects(
      read(damaged),
      refusal('ImageInvalid', /not a tar archive: its first header has checksum/),
    );
    await assert.rejects(
      read(tarEntry({}), damaged),
      refusal('ImageInvalid', /tar header at 512 has checksum/),
    );
  });

  it('pax-header-of-17-MiB, long-name-of-1-MiB, headers without end: refused before they are read', async () => {
    const size = (bytes: number, type: string): Promise<ReadEntry[]> =>
      read(tarHeader({ type, size: bytes }));
    await assert.rejects(
      size(17 * MIB, 'x'),
      refusal('ImageHostile', /'x' at 0 has 17825792 bytes, 16777216/),
    );
    await assert.rejects(size(2 * MIB, 'g'), refusal('ImageHostile', /2097152 bytes/));
    await assert.rejects(size(MIB, 'L'), refusal('ImageHostile', /'L' at 0 has 1048576 bytes, 65536/));
    const labels = Array.from({ length: 200 }, () => tarEntry({ type: 'K' }, 'k'));
    await assert.rejects(read(...labels, tarEntry({})), refusal('ImageHostile', /more than 100 headers/));
  });

  it('a name of 1 MiB in a PAX record is refused before it is taken to pieces', async () => {
    for (const [keyword, type] of [
      ['path', '0'],
      ['GNU.sparse.name', '0'],
      ['linkpath', '2'],
    ] as const)
      await assert.rejects(
        read(paxHeader([[keyword, 'a/'.repeat(MIB / 2)]]), tarEntry({ type })),
        refusal('ImageHostile', /has 1048576 bytes, 65536 is the limit/),
        keyword,
      );
  });

  it('pax-record-lies: lengths that do not fit are refused', async () => {
    for (const text of [
      '99 path=x\n',
      '5 path=x\n',
      '0 a=\n',
      'path=x\n',
      '9 path=xx',
      '-9 path=x\n',
      '7 a b\n',
      '9 path=x\n\0\0x',
    ])
      await assert.rejects(
        read(tarEntry({ type: 'x' }, text), tarEntry({})),
        refusal('ImageInvalid', /PAX header at 0 is damaged/),
        text,
      );
    await assert.rejects(
      read(paxHeader([['path', 'a\0b']]), tarEntry({})),
      refusal('ImageInvalid', /path holds a NUL/),
    );
    await assert.rejects(
      read(paxHeader([['size', '1e3']]), tarEntry({})),
      refusal('ImageInvalid', /size holds no number/),
    );
  });

  const oldGnu = (
    pairs: readonly (readonly [number, number])[],
    realSize: number,
    more: readonly (readonly [number, Buffer])[] = [],
  ): Buffer =>
    tarEntry(
      {
        name: 'disk',
        type: 'S',
        magic: 'ustar  \0',
        raw: [
          [386, sparsePairs(pairs)],
          [483, Buffer.from(`${realSize.toString(8).padStart(11, '0')}\0`)],
          ...more,
        ],
      },
      Buffer.alloc(1024, 's'),
    );
  const version1 = (map: string, realSize = 100_000): readonly Buffer[] => [
    paxHeader([
      ['GNU.sparse.major', '1'],
      ['GNU.sparse.minor', '0'],
      ['GNU.sparse.realsize', `${realSize}`],
    ]),
    tarEntry(
      {},
      Buffer.concat([
        Buffer.from(map).subarray(0, 512),
        Buffer.alloc(512 - map.length),
        Buffer.alloc(1024, 's'),
      ]),
    ),
  ];

  it('a correct sparse map by hand is read, so that the next test refuses what it means to', async () => {
    const expected = Buffer.alloc(100_000);
    expected.fill('s', 4096, 4096 + 1000);
    expected.fill('s', 50_000, 50_024);
    const archives = [
      [
        oldGnu(
          [
            [4096, 1000],
            [50_000, 24],
          ],
          100_000,
        ),
      ],
      version1('2\n4096\n1000\n50000\n24\n'),
    ];
    for (const archive of archives)
      for await (const entry of readTar(inChunks(tarArchive(...archive), 100)))
        assert.ok((await gather(entry.content())).equals(expected));
  });

  it('sparse-map-overlaps, -leaves-the-file, -lies-about-size: refused', async () => {
    const cases: readonly (readonly [readonly Buffer[], RegExp])[] = [
      [
        [
          oldGnu(
            [
              [4096, 1000],
              [5000, 24],
            ],
            100_000,
          ),
        ],
        /not in order: data at 5000 after data that ends at 5096/,
      ],
      [
        [
          oldGnu(
            [
              [4096, 1000],
              [0, 24],
            ],
            100_000,
          ),
        ],
        /not in order/,
      ],
      [[oldGnu([[99_000, 1024]], 100_000)], /leaves the file: data ends at 100024, the file has 100000/],
      [[oldGnu([[0, 1023]], 100_000)], /describes 1023 bytes of data, the entry has 1024/],
      [[oldGnu([[0, 1024]], 100_000, [[482, Buffer.from([1])]])], /goes on after its end/],
      [version1('1\n4096\n1023\n'), /describes 1023 bytes/],
      [version1('2\n4096\n1000\n4000\n24\n'), /not in order/],
      [version1('1\n99999\n1024\n'), /leaves the file/],
      [version1('9999999\n0\n0\n'), /9999999 stretches of data/],
      [version1('3\n0\n1024\n'), /sparse map of 'file' holds no number/],
      [version1(`1\n${'1'.repeat(400)}\n0\n`), /sparse map of 'file' holds no number/],
      [version1('-1\n'), /sparse map of 'file' holds no number/],
    ];
    for (const [archive, message] of cases)
      await assert.rejects(read(...archive), refusal('ImageInvalid', message), String(message));
  });

  const version01 = (map: string, realSize = 100_000): readonly Buffer[] => [
    paxHeader([
      ['GNU.sparse.size', `${realSize}`],
      ['GNU.sparse.map', map],
    ]),
    tarEntry({}, Buffer.alloc(1024, 's')),
  ];

  it('a sparse map in one record is read number by number, and refused where it is none', async () => {
    const expected = Buffer.alloc(100_000);
    expected.fill('s', 4096, 4096 + 1024);
    const archive = tarArchive(...version01('10,0,4096,1024,100000,0'));
    for await (const entry of readTar(inChunks(archive, 100)))
      assert.ok((await gather(entry.content())).equals(expected));
    for (const [map, message] of [
      ['0,1024,2048', /has 3 numbers, some pairs are said/],
      ['0,1024,', /holds no number/],
      [',0,1024', /holds no number/],
      ['0,,1024', /holds no number/],
      [`0,${'1'.repeat(400)}`, /holds no number/],
      ['0,1000,500,24', /not in order/],
    ] as const)
      await assert.rejects(read(...version01(map)), refusal('ImageInvalid', message), map);
  });

  it('a sparse map of stretches without data, in kilobytes of gzip, is refused before it takes memory', async () => {
    const archive = version01(Array<string>(3_300_000).fill('10,0').join(','));
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    let peak = 0;
    await assert.rejects(
      read(...archive).finally(() => (peak = process.memoryUsage().heapUsed - before)),
      refusal('ImageInvalid', /has more than 2097152 stretches/),
    );
    // taken whole, its pairs alone are more
    assert.ok(peak < 128 * MIB, `${peak} bytes of heap`);
  });

  it('sparse formats of others are refused by name', async () => {
    await assert.rejects(
      read(tarEntry({ type: 'S', name: 'star' }, 'x')),
      refusal('UnsupportedFormat', /'star' is a sparse file of another kind/),
    );
    await assert.rejects(
      read(paxHeader([['GNU.sparse.major', '2']]), tarEntry({})),
      refusal('UnsupportedFormat', /GNU sparse format 2\.0/),
    );
  });

  it('names in messages show no control characters', async () => {
    await assert.rejects(
      read(tarEntry({ type: 'S', name: 'a\x1b[31m\nb' }, 'x')),
      refusal('UnsupportedFormat', /^'a\ufffd\[31m\ufffdb' is a sparse/),
    );
  });
});
