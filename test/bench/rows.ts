import type { ImageName } from './images.js';
import type { FloorName, MethodName } from './methods.js';
import type { Bound } from './statistics.js';

/** A factor that a row is judged by: against the fastest of these methods in the same run. */
export interface Judgement extends Bound {
  readonly column: 'cdi' | 'assembly';
  readonly against: readonly MethodName[];
  /** What the factor is, where the column's head does not say it. */
  readonly note?: string;
}

/** One line of the table: an image, the methods that convert it in turns, and what must come out. */
export interface Row {
  readonly name: string;
  readonly title: string;
  readonly image: ImageName;
  readonly judgements: readonly Judgement[];
  readonly floors: readonly FloorName[];
  /** Whether the disk alone is measured in the same rounds, because it can be the limit. */
  readonly onDisk?: boolean;
  /** Measured a few times for comparison, without being judged. */
  readonly beside?: readonly MethodName[];
  readonly checksum?: boolean;
  /** Over the link of {@link LINE_BYTES} instead of loopback. */
  readonly slowLink?: boolean;
}

/** Payload that the slow link carries, in bytes per second. */
export const LINE_BYTES = 50_000_000;

const cdi = (must: number, method: MethodName = 'cdi'): Judgement => ({
  column: 'cdi',
  against: [method],
  must,
});
const assembly = (must: number, goal?: number): Judgement => ({
  column: 'assembly',
  against: ['nbdkit', 'nbdcopy'],
  must,
  ...(goal === undefined ? {} : { goal }),
});
const xz: Judgement = { column: 'assembly', against: ['xz'], must: 0.95, goal: 1, note: 'of xz | dd' };

/** The table of the benchmark, each row with its figures. */
export const ROWS = [
  {
    name: 'plain',
    title: 'plain qcow2',
    image: 'plain',
    judgements: [cdi(2.5), assembly(1.2, 1.33)],
    floors: ['receiver', 'network'],
    onDisk: true,
  },
  {
    name: 'zlib',
    title: 'zlib qcow2',
    image: 'zlib',
    judgements: [cdi(3.5), assembly(3, 3.8)],
    floors: ['libdeflate', 'zlib'],
    onDisk: true,
  },
  {
    name: 'zstd',
    title: 'zstd qcow2',
    image: 'zstd',
    judgements: [cdi(2.8), assembly(2.6, 3.5)],
    floors: ['zstd'],
    onDisk: true,
  },
  {
    name: 'worn',
    title: 'snapshot-worn qcow2',
    image: 'worn',
    judgements: [cdi(2.5), assembly(1.4, 1.7)],
    floors: ['live'],
    onDisk: true,
  },
  {
    name: 'raw',
    title: 'raw, 72 % zeros',
    image: 'raw',
    judgements: [cdi(2), assembly(1.2)],
    floors: ['network'],
    onDisk: true,
  },
  {
    name: 'raw.gz',
    title: 'raw.gz',
    image: 'raw.gz',
    judgements: [cdi(2.5, 'gunzip')],
    floors: ['igzip'],
    beside: ['gzip-dd'],
  },
  {
    name: 'qcow2.gz',
    title: 'qcow2.gz',
    image: 'qcow2.gz',
    judgements: [cdi(2.5, 'gunzip')],
    floors: ['igzip'],
  },
  { name: 'raw.xz', title: 'raw.xz, multi-block', image: 'raw.xz', judgements: [xz], floors: ['xz'] },
  {
    name: 'qcow2.xz',
    title: 'qcow2.xz, multi-block',
    image: 'qcow2.xz',
    judgements: [xz],
    floors: ['xz'],
  },
  {
    name: 'checksum',
    title: 'plain qcow2 with checksum',
    image: 'plain',
    judgements: [cdi(2, 'sha256')],
    floors: ['sha256'],
    onDisk: true,
    checksum: true,
  },
  {
    name: 'line-rate',
    title: 'plain qcow2 at 50 MB/s',
    image: 'plain',
    judgements: [{ column: 'assembly', against: ['line'], must: 0.97, note: 'of line rate' }],
    floors: [],
    slowLink: true,
  },
] as const satisfies readonly Row[];

/** Everything that `--row` can name. */
export type PartName = (typeof ROWS)[number]['name'] | 'clone' | 'upload' | 'memory' | 'growth';

/** All parts in the order in which they run. */
export const PARTS: readonly PartName[] = [
  ...ROWS.map(({ name }) => name),
  'clone',
  'upload',
  'memory',
  'growth',
];
