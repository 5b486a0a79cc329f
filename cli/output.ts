import { EXIT, judge } from './errors.js';

/** Format that a command was asked for. */
export interface OutputOptions {
  readonly output?: 'json';
}

/** Prints one line, or several, on standard output. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Whether standard output has its JSON document. */
let printed = false;

/** Prints the one JSON document of `--output json`. */
export function printJson(value: unknown): void {
  printed = true;
  print(JSON.stringify(value, null, 2));
}

/** Prints the JSON document of a failure, unless there is one already: of what `doctor` found, or with facts of the command's own. */
export function printFailure(failure: string, facts: object = {}): void {
  if (!printed) printJson({ ...facts, failure });
}

/** Does `work`; where a JSON document was asked for, that of a failure holds these facts, too. */
export async function tellingFailure<T>(
  json: boolean,
  work: () => Promise<T>,
  facts: object = {},
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (json) printFailure((await judge(error)).message, facts);
    throw error;
  }
}

/**
 * Watches standard output and error while `work` is done. A reader that has gone away, such as `head`, ends nothing that is under
 * way, and is no failure; output that cannot be written for another reason is one.
 * @returns what `work` returns, or 1 where something of it was not written
 */
export async function withOutput(work: () => Promise<number>): Promise<number> {
  let failed = false;
  const watch = (error: NodeJS.ErrnoException): void => {
    if (error.code === 'EPIPE') return;
    failed = true;
    process.exitCode = EXIT.unknown;
    if (!process.stderr.errored) process.stderr.write(`dvflow: output cannot be written: ${error.message}\n`);
  };
  printed = false;
  process.stdout.on('error', watch);
  process.stderr.on('error', watch);
  const code = await work();
  return failed && code === EXIT.ok ? EXIT.unknown : code;
}
