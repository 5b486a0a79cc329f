/**
 * Runs the tests in parts that are processes beside each other: most of the time tests wait, for Kubernetes, for Temporal and for
 * deadlines, and one process would leave the cores idle. Each has stacks of its own, and nothing of a machine is shared by tests of
 * different parts.
 */
import { spawn, type ChildProcess } from 'node:child_process';

/** A process of tests; its first argument is mocha's program. */
export interface Part {
  readonly args: readonly string[];
}

/** What tests came to. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** Line that the reporter closes with. */
const CLOSING = /^(\d+) passed, (\d+) failed, (\d+) skipped$/gm;

/** Line above the reporter's list of failures, with its colour. */
const FAILING = /^\S* +\S*\d+ failing/m;

/**
 * Runs all parts at once. The first one is shown as it goes on, each other one as soon as those before it have ended, so that no two
 * are mixed, and the failures of all but the last one once more when all have ended: whoever sees the end of a long log sees them.
 * A part that ends without its closing line counts as one failure.
 *
 * `print` gets what is shown; signals `SIGINT` and `SIGTERM` are passed on, and the parts clean up.
 */
export async function runParts(
  parts: readonly Part[],
  print: (text: string) => void,
): Promise<Counts & { readonly status: number }> {
  const children: ChildProcess[] = [];
  const pass = (signal: NodeJS.Signals): void => children.forEach((child) => child.kill(signal));
  process.on('SIGINT', pass).on('SIGTERM', pass);
  let turn: Promise<unknown> = Promise.resolve();
  const runs = parts.map((part) => {
    const child = spawn(process.execPath, part.args, { stdio: ['ignore', 'pipe', 'pipe'] });
    children.push(child);
    const ended = follow(child, turn, print);
    turn = ended.catch(() => undefined);
    return ended;
  });
  const results = await Promise.all(runs);
  process.off('SIGINT', pass).off('SIGTERM', pass);
  for (const { failures } of results.slice(0, -1)) print(failures);
  const sum = (pick: (counts: Counts) => number): number =>
    results.reduce((total, { counts }) => total + pick(counts), 0);
  return {
    passed: sum(({ passed }) => passed),
    failed: sum(({ failed }) => failed),
    skipped: sum(({ skipped }) => skipped),
    status: results.find(({ status }) => status !== 0)?.status ?? 0,
  };
}

async function follow(
  child: ChildProcess,
  turn: Promise<unknown>,
  print: (text: string) => void,
): Promise<{ readonly counts: Counts; readonly failures: string; readonly status: number }> {
  let all = '';
  let shown = 0;
  let mine = false;
  const show = (): void => {
    if (mine) print(all.slice(shown));
    if (mine) shown = all.length;
  };
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (text: string) => {
      all += text;
      show();
    });
  const ended = new Promise<number>((resolve, reject) =>
    child.once('error', reject).once('close', (code) => resolve(code ?? 1)),
  );
  void turn.then(() => {
    mine = true;
    show();
  });
  const [status] = await Promise.all([ended, turn]);
  return { counts: countsOf(all), failures: failuresOf(all), status };
}

function failuresOf(output: string): string {
  const at = output.search(FAILING);
  if (at !== -1) return output.slice(at);
  return output.search(CLOSING) === -1 ? output.slice(-2000) : '';
}

function countsOf(output: string): Counts {
  const [passed, failed, skipped] = [...output.matchAll(CLOSING)].at(-1)?.slice(1).map(Number) ?? [];
  return { passed: passed ?? 0, failed: failed ?? 1, skipped: skipped ?? 0 };
}
