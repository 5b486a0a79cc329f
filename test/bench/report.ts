import { CLONE_MUST, CLONES, type CloneResult } from './clone.js';
import type { GrowthResult } from './growth.js';
import { wallsOf, type Sample } from './measure.js';
import type { MemoryResult } from './memory.js';
import { FLOORS, METHODS, type Method, type MethodName } from './methods.js';
import { rssOf, type Judged, type Limit, type RowResult } from './run-row.js';
import { DISK_MUST, ratios, spreadOf, worst, type Spread, type Verdict } from './statistics.js';
import { markdownTable, mebibytes, seconds, spread } from './table.js';
import { UPLOAD_MUST, UPLOADS, type UploadResult } from './upload.js';

/** Other work during a run, in cores, from which on its figures are not to be trusted. */
const BUSY_CORES = 0.4;

const VERDICTS = {
  pass: 'pass',
  disk: 'the disk is the limit',
  within: 'below, within leeway',
  fail: 'FAIL',
} as const satisfies Record<Verdict, string>;

/** Wall and CPU time of each method in one round, on one line. */
export function roundLine(round: number, samples: ReadonlyMap<MethodName, Sample>): string {
  const figures = [...samples]
    .sort(([one], [other]) => Number(other.startsWith('ours')) - Number(one.startsWith('ours')))
    .map(
      ([name, { wallSeconds, userSeconds, systemSeconds }]) =>
        `${name} ${seconds(wallSeconds)} (${seconds(userSeconds)}+${seconds(systemSeconds)})`,
    );
  return `  ${round}  ${figures.join('   ')}`;
}

/** All methods and floors of a row, then what is judged, then the limits. */
export function rowReport(result: RowResult): string {
  const own = wallsOf(result.samples.get(result.ours));
  const method = (name: MethodName, samples: readonly Sample[], paired: boolean): readonly string[] => {
    const ratio = paired && name !== result.ours ? spread(spreadOf(ratios(own, wallsOf(samples)))) : '';
    return [METHODS[name].title, ...figures(samples), ratio];
  };
  const rows = [
    ...[...result.samples].map(([name, samples]) => method(name, samples, true)),
    ...[...result.beside].map(([name, samples]) => method(name, samples, false)),
    ...[...result.floors].map(([name, samples]) => [`floor: ${FLOORS[name].title}`, ...figures(samples), '']),
  ];
  const limits = result.limits.map(limitText).join(', ');
  return [
    markdownTable(['method', 'wall s', 'user s', 'sys s', 'RSS', 'ratio'], rows),
    '',
    `${limits}; scratch ${mebibytes(scratchOf(result))}${busyNote(result)}`,
  ].join('\n');
}

/** Every pair of a row. */
export function pairsTable(result: RowResult): string {
  const names = [...result.samples.keys()];
  const rounds = result.samples.get(result.ours)?.length ?? 0;
  const rows = Array.from({ length: rounds }, (_, round) => [
    String(round + 1),
    ...names.map((name) => seconds(result.samples.get(name)?.[round]?.wallSeconds ?? NaN)),
  ]);
  return markdownTable(['round', ...names.map((name) => METHODS[name].title)], rows);
}

/** The table of the benchmark. */
export function finalTable(results: readonly RowResult[]): string {
  const head = [
    'image',
    'dvflow, s',
    "vs CDI's way (must)",
    'vs best assembly (must, goal)',
    'floor, s',
    'verdict',
  ];
  return markdownTable(
    head,
    results.map((result) => [
      result.row.title,
      spread(spreadOf(wallsOf(result.samples.get(result.ours)))),
      judgedText(result, 'cdi'),
      judgedText(result, 'assembly'),
      [...result.floors].map(([name, runs]) => `${FLOORS[name].title} ${seconds(median(runs))}`).join('; '),
      verdictText(result),
    ]),
  );
}

/** Memory of each case, and what it must not exceed. */
export function memoryTable(results: readonly MemoryResult[]): string {
  return markdownTable(
    ['image', 'disk', 'wall s', 'largest process', 'its children', 'event loop', 'scratch', 'verdict'],
    results.map(({ case: one, sample, tree, limits }) => [
      one.title,
      one.slowDisk ? 'slow' : 'fast',
      seconds(sample.wallSeconds),
      mebibytes(Math.max(tree.largestBytes, sample.conversion?.stats.peakRssBytes ?? 0)),
      mebibytes(tree.othersBytes),
      `${Math.round(sample.conversion?.stats.maxLoopDelayMs ?? 0)} ms`,
      mebibytes(sample.conversion?.scratchBytes ?? 0),
      VERDICTS[worst(limits.map(({ verdict }) => verdict))],
    ]),
  );
}

/** A sparse disk, copied on one file system and from another node. */
export function cloneTable({ disk, fileSystem, samples, ratio, verdict }: CloneResult): string {
  const what = `${disk.gib} GiB with ${disk.dataMib} MiB of data on ${fileSystem}; against cp`;
  return [
    besideOthers('clone', samples, CLONES),
    '',
    `${what} ${spread(ratio)} (${CLONE_MUST}): ${VERDICTS[verdict]}`,
  ].join('\n');
}

/** The ways to upload. */
export function uploadTable({ title, samples, ratio, verdict }: UploadResult): string {
  const what = `${title}; user, sys and RSS are of the client's side alone; against CDI's way`;
  return [
    besideOthers('upload', samples, UPLOADS),
    '',
    `${what} ${spread(ratio)} (${UPLOAD_MUST}): ${VERDICTS[verdict]}`,
  ].join('\n');
}

function besideOthers<Name extends string>(
  ours: Name,
  samples: ReadonlyMap<Name, readonly Sample[]>,
  methods: Readonly<Record<Name, Method>>,
): string {
  const own = wallsOf(samples.get(ours));
  const rows = [...samples].map(([name, runs]) => [
    methods[name].title,
    ...figures(runs),
    name === ours ? '' : spread(spreadOf(ratios(own, wallsOf(runs)))),
  ]);
  return markdownTable(['method', 'wall s', 'user s', 'sys s', 'RSS', 'ratio'], rows);
}

/** Time and memory by the size of the disk. */
export function growthTable(results: readonly GrowthResult[]): string {
  return markdownTable(
    [
      'disk',
      'data',
      ...['ours', 'nbdkit', 'cdi'].map((name) => `${METHODS[name as MethodName].title}, s`),
      'peak RSS',
    ],
    results.map(({ gib, dataMib, samples }) => [
      `${gib} GiB`,
      `${dataMib} MiB`,
      ...[...samples.values()].map((runs) => spread(spreadOf(wallsOf(runs)))),
      mebibytes(Math.max(...(samples.get('ours') ?? []).map(rssOf))),
    ]),
  );
}

function figures(samples: readonly Sample[]): readonly string[] {
  const of = (figure: (sample: Sample) => number): Spread => spreadOf(samples.map(figure));
  return [
    spread(of(({ wallSeconds }) => wallSeconds)),
    seconds(of(({ userSeconds }) => userSeconds).median),
    seconds(of(({ systemSeconds }) => systemSeconds).median),
    mebibytes(of(rssOf).max),
  ];
}

function judgedText({ judged }: RowResult, column: Judged['column']): string {
  const found = judged.find((one) => one.column === column);
  if (found === undefined) return '';
  const { ratio, must, goal, peer, against, note = against.length > 1 ? `over ${peer}` : undefined } = found;
  const bounds = goal === undefined ? `${must}` : `${must}, ${goal}`;
  return `${spread(ratio)}${note === undefined ? '' : ` ${note}`} (${bounds})`;
}

function verdictText({ judged, limits, verdict }: RowResult): string {
  const goals = judged.filter(({ goal }) => goal !== undefined);
  const reached = goals.length > 0 && goals.every(({ ratio, goal = Infinity }) => ratio.median >= goal);
  const exceeded = limits.filter((limit) => limit.verdict === 'fail').map(({ name }) => name);
  const disk = judged.find((one) => one.verdict === 'disk')?.ofDisk;
  const speed = disk ? [`${spread(disk)} of its speed (${DISK_MUST})`] : [];
  return [VERDICTS[verdict], ...speed, ...(reached ? ['goal'] : []), ...exceeded].join(', ');
}

function limitText({ name, value, most, verdict }: Limit): string {
  const show = (figure: number): string =>
    figure > 1e6 ? mebibytes(figure) : String(Math.round(figure * 100) / 100);
  return `${name.replace(' in bytes', '')} ${show(value)} (at most ${show(most)}${verdict === 'pass' ? '' : ': exceeded'})`;
}

function scratchOf({ samples, ours }: RowResult): number {
  return Math.max(0, ...(samples.get(ours) ?? []).map(({ conversion }) => conversion?.scratchBytes ?? 0));
}

function busyNote({ samples, ours }: RowResult): string {
  const other = spreadOf((samples.get(ours) ?? []).map(({ otherCores }) => otherCores)).median;
  return other < BUSY_CORES
    ? ''
    : `\nother processes used ${other.toFixed(1)} cores meanwhile: not a quiet machine`;
}

function median(samples: readonly Sample[]): number {
  return spreadOf(wallsOf(samples)).median;
}
