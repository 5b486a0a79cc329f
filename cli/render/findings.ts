import { styleText } from 'node:util';
import { AREAS, countLevels, type Finding, type Level } from '../doctor/findings.js';

const COLOURS = { ok: 'green', warning: 'yellow', problem: 'red' } as const satisfies Record<Level, string>;
const LEVEL_WIDTH = 'problem'.length;

/** Findings under their heads, for people; colours only where they are shown. */
export function findingsText(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ subject }) => subject.length));
  const parts = AREAS.flatMap((area) => {
    const own = findings.filter((finding) => finding.area === area);
    return own.length === 0
      ? []
      : [[bold(area), ...own.map((finding) => findingText(finding, width))].join('\n')];
  });
  return [...parts, summaryText(findings)].join('\n\n');
}

function findingText({ level, subject, found, means, todo }: Finding, width: number): string {
  const mark = styleText(COLOURS[level], level.padEnd(LEVEL_WIDTH), { stream: process.stdout });
  const indent = ' '.repeat(LEVEL_WIDTH + width + 6);
  const more = [means, todo && `→ ${todo}`].filter((line) => line !== undefined);
  return [`  ${mark}  ${subject.padEnd(width)}  ${found}`, ...more.map((line) => `${indent}${line}`)].join(
    '\n',
  );
}

/** `31 ok, 2 warnings, 1 problem`. */
export function summaryText(findings: readonly Finding[]): string {
  const { ok, warning, problem } = countLevels(findings);
  const many = (count: number, word: string): string => `${count} ${word}${count === 1 ? '' : 's'}`;
  return `${ok} ok, ${many(warning, 'warning')}, ${many(problem, 'problem')}`;
}

function bold(text: string): string {
  return styleText('bold', text, { stream: process.stdout });
}
