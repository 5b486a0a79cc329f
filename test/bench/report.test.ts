import assert from 'node:assert/strict';
import { format } from 'prettier';
import { growthChart, MARKERS, replaceMeasured } from './documents.js';
import { niceStep, renderChart } from './chart.js';
import type { Sample } from './measure.js';
import type { MethodName } from './methods.js';
import { finalTable, pairsTable, roundLine, rowReport } from './report.js';
import { ROWS, type Row } from './rows.js';
import { judgeRow, limitsOf, type RowResult } from './run-row.js';
import { worst } from './statistics.js';
import { markdownTable } from './table.js';

const MIB = 1024 * 1024;

/** A run of so many seconds; the engine's with its JSON. */
function run(wallSeconds: number, stats?: { rss?: number; loop?: number; blocks?: number }): Sample {
  const conversion = {
    virtualSize: 100 * MIB,
    bytesTransferred: 50 * MIB,
    bytesWritten: 40 * MIB,
    plan: 'ranged',
    scratchBytes: 0,
    seconds: wallSeconds,
    stats: { peakRssBytes: (stats?.rss ?? 100) * MIB, maxLoopDelayMs: stats?.loop ?? 10 },
  };
  return {
    wallSeconds,
    userSeconds: wallSeconds / 2,
    systemSeconds: wallSeconds / 4,
    maxRssBytes: 90 * MIB,
    targetBytes: (stats?.blocks ?? 40) * MIB,
    otherCores: 0.1,
    ...(stats === undefined ? {} : { conversion }),
  };
}

/** A row whose rounds took so long. */
function resultOf(
  row: Row,
  walls: Partial<Record<MethodName, readonly number[]>>,
  quick = false,
  diskWalls: readonly number[] = [],
): RowResult {
  const samples = new Map(
    Object.entries(walls).map(([name, all]) => [
      name as MethodName,
      all.map((wall) => run(wall, name === 'ours' ? {} : undefined)),
    ]),
  );
  const disk = diskWalls.map((wall) => run(wall));
  const judged = row.judgements.map((judgement) =>
    judgeRow(judgement, samples, { ours: 'ours', quick, disk }),
  );
  const limits = limitsOf(samples.get('ours') ?? [], { quick, referenceBytes: 40 * MIB });
  const verdict = worst([...judged, ...limits].map((one) => one.verdict));
  const floors = new Map(row.floors.map((name) => [name, [run(0.5)]]));
  return { row, imageBytes: 1, samples, ours: 'ours', beside: new Map(), floors, judged, limits, verdict };
}

const plain: Row = ROWS[0];

describe('a row of the benchmark', () => {
  it('is judged against the assembly that was faster in this run', () => {
    const walls = { ours: [1, 1, 1], cdi: [3, 3, 3], nbdkit: [2, 2, 2], nbdcopy: [1.5, 1.4, 1.3] };
    const { judged, verdict } = resultOf(plain, walls);
    assert.deepEqual(
      judged.map(({ peer, ratio }) => [peer, ratio.median]),
      [
        ['cdi', 3],
        ['nbdcopy', 1.4],
      ],
    );
    assert.equal(verdict, 'pass');
  });

  it('fails by any one of its figures', () => {
    const walls = { ours: [1, 1], cdi: [2.4, 2.3], nbdkit: [2, 2], nbdcopy: [2, 2] };
    assert.equal(resultOf(plain, walls).verdict, 'fail');
    assert.equal(resultOf(plain, walls, true).verdict, 'within');
  });

  it('says how near to the disk it is where no converter could pass', () => {
    const walls = { ours: [2, 2], cdi: [3, 3], nbdkit: [4, 4], nbdcopy: [4, 4] };
    const result = resultOf(plain, walls, false, [1.8, 1.8]);
    assert.equal(result.verdict, 'disk');
    assert.match(
      finalTable([result]),
      /\| the disk is the limit, 0\.90 \[0\.90-0\.90\] of its speed \(0\.85\)/,
    );
    assert.equal(resultOf(plain, walls, false, [1.1, 1.1]).verdict, 'fail');
  });

  it('is limited in memory, event loop and blocks, by the worst of its runs', () => {
    const limits = limitsOf([run(1, { rss: 100, loop: 20 }), run(1, { rss: 300, loop: 250, blocks: 41 })], {
      quick: false,
      referenceBytes: 40 * MIB,
    });
    assert.deepEqual(
      limits.map(({ value, verdict }) => [Math.round(value * 1000) / 1000, verdict]),
      [
        [300 * MIB, 'fail'],
        [250, 'fail'],
        [1.025, 'fail'],
      ],
    );
  });

  it('names in the table what it is judged by, and each pair', () => {
    const walls = { ours: [1, 1.1, 1.2], cdi: [3, 3.3, 3.6], nbdkit: [2, 2.2, 2.4], nbdcopy: [3, 3, 3] };
    const result = resultOf(plain, walls);
    const line = finalTable([result]).split('\n')[2] ?? '';
    assert.match(
      line,
      /^\| plain qcow2 \| 1\.10 \[1\.00-1\.20\] +\| 3\.00 \[3\.00-3\.00\] \(2\.5\) +\| 2\.00 .* over nbdkit \(1\.2, 1\.33\)/,
    );
    assert.match(line, /C receiver, O_DIRECT 0\.50; network alone 0\.50 \| pass, goal \|$/);
    assert.match(
      rowReport(result),
      /peak RSS 100 MiB \(at most 256 MiB\), event loop blocked, ms 10 \(at most 200\)/,
    );
    assert.equal(pairsTable(result).split('\n').length, 5);
    const [first] = [...result.samples].map(([name, [sample]]) => [name, sample] as const);
    assert.equal(
      roundLine(1, new Map([['cdi', run(3)], first as [MethodName, Sample]])),
      '  1  ours 1.00 (0.50+0.25)   cdi 3.00 (1.50+0.75)',
    );
  });
});

describe('tables and chart of the benchmark', () => {
  it('are Markdown as prettier would write it', async () => {
    const table = markdownTable(['a', 'long head'], [['1 | 2', 'x'], ['3']]);
    assert.equal(await format(table, { parser: 'markdown' }), `${table}\n`);
  });

  it('go between the markers and leave the rest alone', () => {
    const document = `# Head\n\n${MARKERS[0]}\n\nold\n\n${MARKERS[1]}\n\ntail\n`;
    const replaced = replaceMeasured(document, 'new');
    assert.equal(replaced, `# Head\n\n${MARKERS[0]}\n\nnew\n\n${MARKERS[1]}\n\ntail\n`);
    assert.equal(replaceMeasured(replaced, 'new'), replaced);
    assert.throws(() => replaceMeasured('# Head', 'new'), /no <!-- measured: begin -->/);
  });

  it('draw each size once in each line', () => {
    const growth = [1, 4, 16].map((gib) => ({
      gib,
      dataMib: gib * 50,
      samples: new Map<MethodName, readonly Sample[]>([
        ['ours', [run(gib / 10, { rss: 120 })]],
        ['nbdkit', [run(gib / 5)]],
        ['cdi', [run(gib / 3)]],
      ]),
    }));
    const lines = [...growthChart(growth).matchAll(/<polyline class="line c(\d)" points="([^"]*)"/g)];
    assert.deepEqual(
      lines.map(([, colour, points = '']) => [colour, points.split(' ').length]),
      [
        ['0', 3],
        ['1', 3],
        ['2', 3],
        ['0', 3],
      ],
    );
  });

  it('escape what stands in text, and read well in the dark', () => {
    const svg = renderChart('a < b', [
      { title: 'x & y', labels: ['1'], lines: [{ name: 'n', values: [1], colour: 0 }] },
    ]);
    assert.match(svg, /aria-label="a &lt; b"/);
    assert.match(svg, />x &amp; y</);
    assert.match(svg, /prefers-color-scheme: dark/);
  });

  it('step in ones, twos or fives', () => {
    assert.deepEqual([0.9, 4, 13, 250].map(niceStep), [0.2, 1, 5, 50]);
  });
});
