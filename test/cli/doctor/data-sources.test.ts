import assert from 'node:assert/strict';
import { checkDataSources } from '../../../cli/doctor/checks/data-sources.js';
import type { DataSourceObject } from '../../../cli/doctor/objects.js';
import { only } from './findings.js';

describe('doctor: DataSources', () => {
  const one = (name: string, reason?: string): DataSourceObject => ({
    metadata: { namespace: 'a', name, creationTimestamp: '2026-01-01T00:00:00Z' },
    ...(reason === undefined
      ? {}
      : {
          status: {
            conditions: [
              { type: 'Ready', status: reason === 'Ready' ? 'True' : 'False', reason, message: 'why' },
            ],
          },
        }),
  });
  const soon = Date.parse('2026-01-01T00:00:30Z');

  it('that lead nowhere for ever are warnings, those whose source is awaited are not', () => {
    const found = checkDataSources(
      { value: [one('good', 'Ready'), one('loop', 'MaxReferenceDepthReached'), one('early', 'NotFound')] },
      soon,
    );
    assert.deepEqual(
      found.map(({ subject, level, found: told }) => [subject, level, told]),
      [
        ['DataSources', 'ok', '3 in all, 1 Ready'],
        ['DataSource a/loop', 'warning', 'MaxReferenceDepthReached: why'],
      ],
    );
  });

  it('that nobody has looked at are a problem after a minute', () => {
    assert.deepEqual(only(checkDataSources({ value: [one('new')] }, soon), 'problem'), []);
    const [problem] = only(checkDataSources({ value: [one('new')] }, soon + 60_000), 'problem');
    assert.match(problem?.means ?? '', /no control worker has looked at it/);
  });
});
