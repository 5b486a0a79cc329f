/** What the programs of `npm run` have in common: how their command line is read, and how they end. */
import { parseArgs, type ParseArgsConfig } from 'node:util';

/** A command line that cannot be followed, or that asked for the usage. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Reads options as `util.parseArgs` does. @throws {@link UsageError} naming what is wrong */
export function parseFlags<Options extends NonNullable<ParseArgsConfig['options']>>(
  args: readonly string[],
  options: Options,
) {
  try {
    return parseArgs({ args: [...args], options }).values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/**
 * Runs a program to its exit code: the one that `main` resolves to, 2 for a {@link UsageError}, 1 for any other error. One with an
 * empty message is answered with the usage, and is a success.
 */
export async function runProgram(
  { name, usage }: { readonly name: string; readonly usage: string },
  main: () => Promise<number>,
): Promise<void> {
  try {
    process.exitCode = await main();
  } catch (error) {
    const isUsage = error instanceof UsageError;
    if (isUsage && error.message === '') return void process.stdout.write(`${usage}\n`);
    process.stderr.write(`${name}: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = isUsage ? 2 : 1;
  }
}
