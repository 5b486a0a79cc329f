/** Format that a command was asked for. */
export interface OutputOptions {
  readonly output?: 'json';
}

/** Prints one line, or several, on standard output. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Prints the one JSON document of `--output json`. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}
