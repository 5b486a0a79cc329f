import assert from 'node:assert/strict';
import { METRICS, type MetricDefinition } from '../../workers/metrics/catalogue.js';
import { projectPath, readDocument } from '../docs/documents.js';
import { alertRules, panels, selectorsOf } from '../support/monitoring.js';
import { promtool } from '../support/prometheus.js';

/** Names under which Prometheus stores a metric. */
const SERIES = new Map(
  Object.entries<MetricDefinition>(METRICS).flatMap(([name, definition]) =>
    (definition.type === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']).map(
      (suffix) => [`${name}${suffix}`, definition] as const,
    ),
  ),
);

describe('alert rules and dashboard', () => {
  it('promtool accepts the rules', async () => {
    const told = await promtool(['check', 'rules', projectPath('deploy/monitoring/alerts.yaml')]);
    assert.match(told, new RegExp(`SUCCESS: ${alertRules().length} rules found`));
  });

  it('every alert says what it is, how grave it is, and has its paragraph in docs/operations.md', () => {
    const documented = [...readDocument('docs/operations.md').matchAll(/^\*\*(Dvflow\w+)\*\*/gm)].map(
      ([, name]) => name,
    );
    const rules = alertRules();
    assert.deepEqual(documented.toSorted(), rules.map(({ alert }) => alert).toSorted());
    for (const { labels, annotations, alert } of rules) {
      assert.ok(['critical', 'warning', 'info'].includes(labels.severity ?? ''), alert);
      assert.ok(annotations.summary && annotations.description, alert);
    }
  });

  it('every panel has a title, says what it shows, and asks something', () => {
    const titles = panels().map(({ title }) => title);
    assert.equal(new Set(titles).size, titles.length);
    for (const { title, description, targets = [] } of panels()) {
      assert.ok(description, title);
      assert.ok(targets.length > 0, title);
    }
  });

  it('ask only for metrics and labels that there are', () => {
    const expressions = [
      ...alertRules().map(({ expr }) => expr),
      ...panels().flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)),
    ];
    for (const selector of expressions.flatMap(selectorsOf).filter((one) => one.startsWith('dvflow_'))) {
      const [name = ''] = selector.split('{');
      const definition = SERIES.get(name);
      assert.ok(definition, `${name} does not exist`);
      for (const [, label = ''] of selector.matchAll(/[{,]\s*([a-z_]+)\s*[=!]/g))
        assert.ok(definition.labels.includes(label), `${name} has no label ${label}`);
    }
  });

  it('show every metric of dvflow in some panel', () => {
    const shown = new Set(
      panels().flatMap(({ targets = [] }) => targets.flatMap(({ expr }) => selectorsOf(expr))),
    );
    const names = [...shown].map((selector) =>
      selector.replace(/\{.*/, '').replace(/_(bucket|sum|count)$/, ''),
    );
    const missing = Object.keys(METRICS).filter((name) => !names.includes(name));
    assert.deepEqual(missing, []);
  });
});
