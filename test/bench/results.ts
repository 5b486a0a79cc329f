import { writeFileSync } from 'node:fs';
import type { DiskSize } from './disk.js';
import type { CloneResult } from './clone.js';
import type { UploadResult } from './upload.js';
import type { GrowthResult } from './growth.js';
import type { MemoryResult } from './memory.js';
import type { RowResult } from './run-row.js';
import { worst, type Verdict } from './statistics.js';

/** Everything that one run of the benchmark found. */
export interface BenchResults {
  readonly machine: string;
  readonly disk: DiskSize;
  /** How the slow link was made. */
  readonly link: string;
  readonly pairs: number;
  readonly quick: boolean;
  readonly rows: readonly RowResult[];
  /** One for each file system. */
  readonly clones: readonly CloneResult[];
  /** Absent where it was not measured. */
  readonly upload?: UploadResult | undefined;
  readonly memory: readonly MemoryResult[];
  readonly growth: readonly GrowthResult[];
  /** Part of the disks of {@link growth} that is data. */
  readonly percent: number;
  /** Parts that could not be run to their end, or gave a wrong result, and why. */
  readonly failures: readonly { readonly part: string; readonly reason: string }[];
}

/** What the run comes to. */
export function verdictOf({ rows, clones, upload, memory, failures }: BenchResults): Verdict {
  if (failures.length > 0) return 'fail';
  return worst([
    ...rows.map(({ verdict }) => verdict),
    ...clones.map(({ verdict }) => verdict),
    ...(upload ? [upload.verdict] : []),
    ...memory.flatMap(({ limits }) => limits.map(({ verdict }) => verdict)),
  ]);
}

/** Writes it as JSON, maps as objects. */
export function writeResults(file: string, results: BenchResults): void {
  const plain = (_: string, value: unknown): unknown =>
    value instanceof Map ? Object.fromEntries(value as Map<string, unknown>) : value;
  writeFileSync(file, `${JSON.stringify({ ...results, verdict: verdictOf(results) }, plain, 2)}\n`);
}
