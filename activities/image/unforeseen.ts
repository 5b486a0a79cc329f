import { codeOf } from '../node/directories.js';

/**
 * An error that dvflow did not foresee, by class and code only: its message and properties may hold what was being read, which
 * is a stranger's image or a credential.
 */
export function nameUnforeseen(error: unknown): string {
  if (!(error instanceof Error)) return `thrown ${typeof error}`;
  const code = codeOf(error);
  return typeof code === 'string' ? `${error.name} ${code}` : error.name;
}
