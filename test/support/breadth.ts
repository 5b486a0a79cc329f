/**
 * How widely tests combine what works by the same mechanism: which process is killed under which format, who ends a run at which of its
 * steps, which container is around which image. Every run tries what stands for the others; all combinations, and a few long tests whose
 * mechanisms other suites try, are run by `DVFLOW_TEST_BREADTH=all npm test` and where histories are recorded.
 */
const EVERYTHING = process.env['DVFLOW_TEST_BREADTH'] === 'all' || process.env['DVFLOW_RECORD'] === '1';

/** All of them, or those that stand for the others. */
export function chosen<T>(all: readonly T[], stands: (one: T, index: number) => boolean): readonly T[] {
  return EVERYTHING ? all : all.filter(stands);
}

/** Mocha's `it` for a combination that stands for others; for one that does not, only where all are tried. */
export function itIf(stands: boolean): Mocha.TestFunction | ((title: string, test: Mocha.AsyncFunc) => void) {
  return EVERYTHING || stands ? it : () => undefined;
}

/** So many cases, or as many as where all is tried. */
export function cases(few: number, all: number): number {
  return EVERYTHING ? all : few;
}
