/** `npm run fuzz`: images of every kind against `qemu-img` as oracle, for some minutes. Ends with 1 when something was found. */
import { runProgram } from '../support/command-line.js';
import { parseOptions, USAGE, type FuzzOptions } from './options.js';
import { progressLine, reportText } from './report.js';
import { runFuzz } from './run-fuzz.js';

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** The numbers of a run: the one that was asked for, or one after another until time is over. */
function* numbers({ only, minutes, cases = Infinity }: FuzzOptions): Generator<number> {
  if (only !== undefined) {
    yield only;
    return;
  }
  const end = performance.now() + minutes * 60_000;
  for (let number = 0; number < cases && performance.now() < end; number += 1) yield number;
}

/** Says how far it is: every second on a terminal, every half a minute elsewhere. */
function createProgress(): (finding: string | undefined) => void {
  const { isTTY } = process.stdout;
  const begun = performance.now();
  let [cases, findings, said] = [0, 0, begun];
  return (finding) => {
    cases += 1;
    if (finding !== undefined) findings += 1;
    const now = performance.now();
    if (now - said < (isTTY ? 1000 : 30_000)) return;
    said = now;
    const line = progressLine(cases, findings, (now - begun) / 1000);
    process.stdout.write(isTTY ? `\r${line}` : `${line}\n`);
  };
}

async function main(options: FuzzOptions): Promise<number> {
  const { seed, only } = options;
  say(`seed ${seed}`);
  const progress = createProgress();
  const report = await runFuzz({
    seed,
    cases: numbers(options),
    onCase(one, verdict) {
      if (only !== undefined) say(JSON.stringify({ ...one, verdict }, undefined, 2));
      else if (verdict.finding !== undefined) say(`case ${one.number}: ${verdict.finding}`);
      progress(verdict.finding);
    },
  });
  say(`${process.stdout.isTTY ? '\n' : ''}${reportText(report)}`);
  return report.findings.length === 0 ? 0 : 1;
}

await runProgram({ name: 'fuzz', usage: USAGE }, () => main(parseOptions(process.argv.slice(2))));
