/**
 * One value more of an option that may be given several times. Commander's own way takes every word up to the next option, the
 * command's arguments with them: `--header 'A: b' URL`.
 */
export function repeated(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}
