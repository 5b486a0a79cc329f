import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { UsageError } from '../support/command-line.js';
import { parseOptions } from './options.js';
import { versionIn } from './machine.js';
import { readConversion } from './methods.js';
import { summarise } from './process-tree.js';
import { PARTS } from './rows.js';
import { startRelay } from './slow-link.js';
import { lifeOf, randomNumbers, splitExtents } from './worn.js';
import { projectPath } from '../docs/documents.js';

const KIB = 1024;
const MIB = 1024 * KIB;

describe('options of the benchmark', () => {
  it('are everything by default, and all but growth in the quick run', () => {
    assert.deepEqual(parseOptions([]).parts, PARTS);
    assert.deepEqual(
      parseOptions(['--quick']).parts,
      PARTS.filter((part) => part !== 'growth'),
    );
    assert.equal(parseOptions([]).pairs, 5);
  });

  it('name parts, in the order of the table', () => {
    assert.deepEqual(parseOptions(['--row', 'growth', '--row', 'zlib', '--quick']).parts, ['zlib', 'growth']);
  });

  for (const [args, message] of [
    [['--row', 'vhdx'], /no row vhdx/],
    [['--pairs', '0'], /whole number/],
    [['--write-docs', '--row', 'plain'], /needs all parts/],
    [['--fast'], /fast/],
  ] as const) {
    it(`refuse ${args.join(' ')}`, () =>
      assert.throws(
        () => parseOptions(args),
        (error) => error instanceof UsageError && message.test(error.message),
      ));
  }
});

describe('parts of the benchmark', () => {
  it('read the version out of what a tool prints', () => {
    assert.equal(versionIn('qemu-img version 7.2.22 (Debian 1:7.2+dfsg-7)'), '7.2.22');
    assert.equal(versionIn('no such thing'), 'of unknown version');
  });

  it('refuse an engine that does not say what it is judged by', () => {
    assert.throws(() => readConversion('{"stats":{"peakRssBytes":1}}'), /maxLoopDelayMs/);
  });

  it('tell the process that transfers from its children, and count those that live at the same time', () => {
    const at = (pid: number, name: string, mib: number) => ({ pid, name, rss: mib * MIB, peak: mib * MIB });
    const memory = summarise([
      [at(1, 'measure', 2), at(2, 'node', 80)],
      [at(2, 'node', 140), at(3, 'xz', 60), at(4, 'xz', 50)],
      [at(2, 'node', 140), at(5, 'xz', 70)],
    ]);
    assert.deepEqual(memory, {
      largestBytes: 140 * MIB,
      largestName: 'node',
      othersBytes: 110 * MIB,
      otherNames: ['xz'],
    });
  });

  it('pace a relay over all its connections together', async () => {
    const body = Buffer.alloc(300_000, 7);
    const server = createServer((socket) => socket.end(body)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const relay = await startRelay({ host: '127.0.0.1', port }, 2_000_000);
    const start = performance.now();
    const bodies = await Promise.all([buffer(connect(relay)), buffer(connect(relay))]);
    const seconds = (performance.now() - start) / 1000;
    server.close();
    for (const received of bodies) assert.ok(received.equals(body));
    assert.ok(seconds > 0.28, `${seconds} s for 0.6 MB at 2 MB/s`);
  });
});

describe('the worn image', () => {
  const map = [
    { start: 0, length: 100 * KIB, data: true },
    { start: 100 * KIB, length: 924 * KIB, data: false },
    { start: MIB, length: 20 * MIB, data: true },
  ];
  const extents = splitExtents(map, randomNumbers(1));

  it('has its data in stretches of 64 KiB to 1 MiB on cluster borders, none twice', () => {
    let end = 0;
    for (const { start, length } of extents) {
      assert.ok(start >= end && start % (64 * KIB) === 0, `${start} after ${end}`);
      assert.ok(length >= 64 * KIB && length <= MIB, `${length}`);
      end = start + length;
    }
    assert.equal(
      extents.reduce((sum, { length }) => sum + length, 0),
      128 * KIB + 20 * MIB,
    );
  });

  it('lives through a resize, two snapshots of which one is deleted, and ends with every stretch as it must be', () => {
    const steps = lifeOf('image', { size: 21 * MIB, extents, random: randomNumbers(2) });
    const calls = steps.flatMap((step) => ('img' in step ? [step.img.slice(0, 3).join(' ')] : []));
    assert.deepEqual(calls, [
      'create -q -f',
      'snapshot -c first',
      'resize -q image',
      'snapshot -c second',
      'snapshot -d first',
    ]);
    const last = steps.at(-1);
    assert.ok(last && 'io' in last);
    const written = last.io.filter((line) => line.startsWith('write')).toSorted();
    const expected = extents
      .map(({ start, length }, index) => `write -q -s ${index} ${start} ${length}`)
      .toSorted();
    assert.deepEqual(written, expected);
    assert.equal(
      last.io.findLastIndex((line) => line.startsWith('discard')) < last.io.indexOf(written[0] ?? ''),
      true,
    );
  });
});

describe('docs/performance.md', () => {
  it('shows a chart only when the benchmark has drawn it', () => {
    const shown = readFileSync(projectPath('docs/performance.md'), 'utf8').includes('(growth.svg)');
    assert.ok(!shown || existsSync(projectPath('docs/growth.svg')));
  });
});
