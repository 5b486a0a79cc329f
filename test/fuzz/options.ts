import { parseFlags, UsageError } from '../support/command-line.js';

/** What `npm run fuzz -- …` was asked for. */
export interface FuzzOptions {
  readonly minutes: number;
  readonly seed: string;
  /** Only this case. */
  readonly only?: number;
  /** Ends after so many cases, if the minutes are not over before. */
  readonly cases?: number;
}

/** Text of `--help`. */
export const USAGE = `npm run fuzz -- [options]

  --minutes N  how long new cases are begun (1 by default)
  --seed S     which cases; the same seed makes the same ones (by default another one each time)
  --cases N    at most so many cases
  --case K     only case K of the seed

Ends with 1 when something was found; the images of findings are kept.
`;

/** Reads the command line. @throws {@link UsageError} naming what is wrong, with an empty message for `--help` */
export function parseOptions(args: readonly string[]): FuzzOptions {
  const text = { type: 'string' } as const;
  const values = parseFlags(args, {
    minutes: text,
    seed: text,
    cases: text,
    case: text,
    help: { type: 'boolean', short: 'h' },
  });
  if (values.help === true) throw new UsageError('');
  const only = wholeNumber('case', values.case);
  const cases = wholeNumber('cases', values.cases);
  const minutes = values.minutes === undefined ? 1 : Number(values.minutes);
  if (!(minutes > 0 && Number.isFinite(minutes)))
    throw new UsageError(`--minutes must be a number above 0: ${values.minutes}`);
  if (only !== undefined && values.seed === undefined) throw new UsageError('--case needs its --seed');
  return {
    minutes,
    seed: values.seed ?? `${Math.floor(Math.random() * 1e9)}`,
    ...(only === undefined ? {} : { only }),
    ...(cases === undefined ? {} : { cases }),
  };
}

function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0 || text === '')
    throw new UsageError(`--${name} must be a whole number: ${text}`);
  return value;
}
