import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import { renderChart } from './chart.js';
import { GROWTH_METHODS, type GrowthResult } from './growth.js';
import { wallsOf } from './measure.js';
import {
  cloneTable,
  finalTable,
  growthTable,
  memoryTable,
  pairsTable,
  rowReport,
  uploadTable,
} from './report.js';
import { rssOf } from './run-row.js';
import { spreadOf } from './statistics.js';
import type { BenchResults } from './results.js';

const DOCUMENT = fileURLToPath(new URL('../../docs/performance.md', import.meta.url));
const ENGINE = fileURLToPath(new URL('../../docs/engine.md', import.meta.url));
const CHART = fileURLToPath(new URL('../../docs/growth.svg', import.meta.url));

/** The measured part of the document lies between these. */
export const MARKERS = ['<!-- measured: begin -->', '<!-- measured: end -->'] as const;

/** Short names for a legend. */
const LEGEND = { ours: 'dvflow', nbdkit: 'nbdkit + qemu-img', cdi: "CDI's way" } as const;

/** Writes what was measured into `docs/performance.md` and `docs/growth.svg`, and the table of ratios into `docs/engine.md` too. */
export async function writeDocuments(results: BenchResults): Promise<void> {
  await writeMeasured(DOCUMENT, measuredPart(results));
  await writeMeasured(ENGINE, finalTable(results.rows));
  writeFileSync(CHART, growthChart(results.growth));
}

async function writeMeasured(filepath: string, measured: string): Promise<void> {
  const text = replaceMeasured(readFileSync(filepath, 'utf8'), measured);
  writeFileSync(filepath, await format(text, { ...(await resolveConfig(filepath)), filepath }));
}

/** Puts the text between the markers. @throws when they are not there */
export function replaceMeasured(document: string, measured: string): string {
  const [begin, end] = MARKERS.map((marker) => document.indexOf(marker));
  if (begin === undefined || end === undefined || begin < 0 || end < begin)
    throw new Error(`the document has no ${MARKERS.join(' … ')}`);
  return `${document.slice(0, begin)}${MARKERS[0]}\n\n${measured}\n\n${document.slice(end)}`;
}

/** Time and memory over the size of the disk. */
export function growthChart(growth: readonly GrowthResult[]): string {
  const labels = growth.map(({ gib }) => `${gib} GiB`);
  const time = GROWTH_METHODS.map((name, index) => ({
    name: LEGEND[name],
    colour: index as 0 | 1 | 2,
    values: growth.map(({ samples }) => spreadOf(wallsOf(samples.get(name))).median),
  }));
  const memory = growth.map(({ samples }) => Math.max(...(samples.get('ours') ?? []).map(rssOf)) / 1024 ** 2);
  return renderChart('Time and memory by the size of a sparse disk', [
    { title: 'seconds', labels, lines: time },
    { title: 'peak memory, MiB', labels, lines: [{ name: LEGEND.ours, colour: 0, values: memory }] },
  ]);
}

function measuredPart({
  machine,
  disk,
  link,
  pairs,
  quick,
  rows,
  clones,
  upload,
  memory,
  growth,
  percent,
}: BenchResults): string {
  return [
    `Measured${quick ? ' with `--quick`' : ''} on: ${machine}.`,
    `Disk of ${disk.diskMib} MiB with ${disk.dataMib} MiB of data; ${pairs} counted pairs a row. The 50 MB/s link: ${link}.`,
    finalTable(rows),
    '### Each row',
    ...rows.flatMap((row) => [
      `#### ${row.row.title}`,
      rowReport(row),
      'All pairs, seconds:',
      pairsTable(row),
    ]),
    ...(clones.length > 0 ? ['### Clones', ...clones.map(cloneTable)] : []),
    ...(upload ? ['### An upload', uploadTable(upload)] : []),
    '### Memory',
    memoryTable(memory),
    '### Growth',
    `Sparse qcow2 images with ${percent} % of data.`,
    '![Time and memory by the size of the disk](growth.svg)',
    growthTable(growth),
  ].join('\n\n');
}
