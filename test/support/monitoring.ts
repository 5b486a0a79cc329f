/** The alert rules and the dashboard of `deploy/monitoring`, as tests ask them. */
import { parse } from 'yaml';
import { readDocument } from '../docs/documents.js';

/** An alert rule. */
export interface AlertRule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

/** A panel of the dashboard. */
export interface Panel {
  readonly title: string;
  readonly type: string;
  readonly description?: string;
  readonly targets?: readonly { readonly expr: string }[];
}

/** Every alert rule. */
export function alertRules(): readonly AlertRule[] {
  const { groups } = parse(readDocument('deploy/monitoring/alerts.yaml')) as {
    groups: readonly { rules: readonly AlertRule[] }[];
  };
  return groups.flatMap(({ rules }) => rules);
}

/** Every panel of the dashboard that shows something. */
export function panels(): readonly Panel[] {
  const { panels: all } = JSON.parse(readDocument('deploy/monitoring/dashboard.json')) as {
    panels: readonly Panel[];
  };
  return all.filter(({ type }) => type !== 'row');
}

/**
 * The series that an expression reads, as selectors with what it narrows them by: `dvflow_phase_seconds_bucket`,
 * `dvflow_build_info{role="control"}`.
 */
export function selectorsOf(expression: string): readonly string[] {
  return [...expression.matchAll(/\b((?:dvflow|temporal)_[a-z_]+)(\{[^}]*\})?/g)].map(
    ([selector]) => selector,
  );
}
