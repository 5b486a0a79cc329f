/** How grave a finding is. `warning` also stands for what could not be judged. */
export type Level = 'ok' | 'warning' | 'problem';

/** Heads under which findings are shown, in this order. */
export const AREAS = ['Temporal', 'Kubernetes', 'Workers', 'Nodes', 'Storage', 'DataVolumes'] as const;

/** Head under which a finding is shown. */
export type Area = (typeof AREAS)[number];

/** One thing that was looked at. */
export interface Finding {
  readonly area: Area;
  /** What was looked at, in few words: `schedule dvflow-sweep`. */
  readonly subject: string;
  readonly level: Level;
  /** What was found. */
  readonly found: string;
  /** What it means for users; absent where all is well. */
  readonly means?: string;
  /** What to do, as a command where there is one. */
  readonly todo?: string;
}

/** What is wrong with something: what was found, what that means, and what to do. */
export interface Trouble {
  readonly found: string;
  readonly means: string;
  readonly todo: string;
}

/** Findings about one subject. */
export interface Subject {
  ok(found: string): Finding;
  warning(trouble: Trouble): Finding;
  problem(trouble: Trouble): Finding;
}

/** The subject of findings. */
export function about(area: Area, subject: string): Subject {
  return {
    ok: (found) => ({ area, subject, level: 'ok', found }),
    warning: (trouble) => ({ area, subject, level: 'warning', ...trouble }),
    problem: (trouble) => ({ area, subject, level: 'problem', ...trouble }),
  };
}

/** How many findings there are of each level. */
export function countLevels(findings: readonly Finding[]): Readonly<Record<Level, number>> {
  const counts = { ok: 0, warning: 0, problem: 0 };
  for (const { level } of findings) counts[level] += 1;
  return counts;
}
