import { parseFlags, UsageError } from '../support/command-line.js';
import { PARTS, type PartName } from './rows.js';

/** What `npm run bench -- …` was asked for. */
export interface BenchOptions {
  /** The small disk, and a failure only far below what must be. */
  readonly quick: boolean;
  readonly parts: readonly PartName[];
  /** Rounds that count, after the one that warms up. */
  readonly pairs: number;
  /** File that gets every sample and verdict as JSON. */
  readonly json?: string;
  /** Keeps the working directory with its targets and logs. */
  readonly keep: boolean;
  /** Generates the images and ends. */
  readonly imagesOnly: boolean;
  /** Puts tables and chart into `docs/`. */
  readonly writeDocs: boolean;
}

/** Text of `--help`. */
export const USAGE = `npm run bench -- [options]

  --quick        a 2 GiB disk with 600 MiB of data instead of 6 GiB with 1695 MiB; fails only below 0.8 of what must be
  --row NAME     only this part, may be given again: ${PARTS.join(', ')}
  --pairs N      rounds that count (at least 1, 5 by default); one more warms up
  --json FILE    writes every sample and verdict
  --keep         keeps the working directory
  --images-only  generates the images and ends
  --write-docs   writes docs/growth.svg and the tables of docs/performance.md and docs/engine.md; needs all parts, also with --quick

Images are kept below XDG_CACHE_HOME (else ~/.cache), where the targets are written too.
`;

/** Reads the command line. @throws {@link UsageError} naming what is wrong, with an empty message for `--help` */
export function parseOptions(args: readonly string[]): BenchOptions {
  const flag = { type: 'boolean' } as const;
  const values = parseFlags(args, {
    quick: flag,
    row: { type: 'string', multiple: true },
    pairs: { type: 'string' },
    json: { type: 'string' },
    keep: flag,
    'images-only': flag,
    'write-docs': flag,
    help: { ...flag, short: 'h' },
  });
  if (values.help === true) throw new UsageError('');
  const quick = values.quick === true;
  const pairs = values.pairs === undefined ? 5 : Number(values.pairs);
  if (!Number.isInteger(pairs) || pairs < 1)
    throw new UsageError(`--pairs must be a whole number from 1: ${values.pairs}`);
  const unknown = (values.row ?? []).find((name) => !PARTS.some((part) => part === name));
  if (unknown !== undefined) throw new UsageError(`no row ${unknown}: ${PARTS.join(', ')}`);
  const writeDocs = values['write-docs'] === true;
  if (writeDocs && values.row !== undefined)
    throw new UsageError('--write-docs needs all parts: leave out --row');
  return {
    quick,
    parts: PARTS.filter((part) =>
      values.row === undefined ? writeDocs || !(quick && part === 'growth') : values.row.includes(part),
    ),
    pairs,
    ...(values.json === undefined ? {} : { json: values.json }),
    keep: values.keep === true,
    imagesOnly: values['images-only'] === true,
    writeDocs,
  };
}
