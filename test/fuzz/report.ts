import type { FuzzReport } from './run-fuzz.js';

/** A few words on how far a run is. */
export function progressLine(cases: number, findings: number, seconds: number): string {
  return `${cases} cases in ${Math.round(seconds)} s, ${findings} findings`;
}

/** The whole of a run: counts by kind, speed, memory, and each finding with how to have it again. */
export function reportText({ seed, cases, seconds, counts, findings, peakBytes }: FuzzReport): string {
  const rows = [...counts].toSorted(([a], [b]) => a.localeCompare(b));
  const width = Math.max(0, ...rows.map(([kind]) => kind.length));
  return [
    ...rows.map(([kind, count]) => `  ${kind.padEnd(width)}  ${count}`),
    `seed ${seed}: ${cases} cases in ${Math.round(seconds)} s, ${Math.round((cases / seconds) * 60)} a minute; largest worker ${Math.round(peakBytes / 2 ** 20)} MiB`,
    ...findings.flatMap(({ number, what, kept }) => [
      `FOUND in case ${number}: ${what}`,
      `  again: npm run fuzz -- --seed ${seed} --case ${number}`,
      `  image: ${kept}`,
    ]),
    findings.length === 0 ? 'nothing was found' : `${findings.length} findings`,
  ].join('\n');
}
