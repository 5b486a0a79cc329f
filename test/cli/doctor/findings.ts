/** What tests of `dvflow doctor` judge findings by, and the time that it is in them. */
import type { Finding } from '../../../cli/doctor/findings.js';

export const NOW = Date.parse('2026-01-02T00:00:00Z');
export const ago = (minutes: number): string => new Date(NOW - minutes * 60_000).toISOString();
export const forbidden = { refused: 'nobody may', kind: 'forbidden' } as const;
export const notFound = { refused: 'not found', kind: 'notFound' } as const;

/** Level and subject of each finding. */
export const levels = (findings: readonly Finding[]): readonly string[] =>
  findings.map(({ level, subject }) => `${level} ${subject}`);
export const only = (findings: readonly Finding[], level: Finding['level']): readonly Finding[] =>
  findings.filter((finding) => finding.level === level);
