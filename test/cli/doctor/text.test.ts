import assert from 'node:assert/strict';
import { findingsText } from '../../../cli/render/findings.js';

describe('doctor: text', () => {
  it('puts what a finding means and what to do under it', () => {
    const text = findingsText([
      {
        area: 'Storage',
        subject: 'pool',
        level: 'problem',
        found: 'gone',
        means: 'no volumes',
        todo: 'mkdir',
      },
      { area: 'Temporal', subject: 'server', level: 'ok', found: 'there' },
    ]);
    assert.equal(
      text,
      [
        'Temporal',
        '  ok       server  there',
        '',
        'Storage',
        '  problem  pool    gone',
        '                   no volumes',
        '                   → mkdir',
        '',
        '1 ok, 0 warnings, 1 problem',
      ].join('\n'),
    );
  });
});
