import assert from 'node:assert/strict';
import { expectedRights } from '../../../cli/doctor/rights.js';

describe('doctor: rights', () => {
  it('are those that the bindings give, rule by rule', () => {
    const rights = expectedRights([
      {
        kind: 'Role',
        metadata: { name: 'r', namespace: 'n' },
        rules: [{ apiGroups: [''], resources: ['secrets', 'pods/log'], verbs: ['get', 'list'] }],
      },
      {
        kind: 'RoleBinding',
        metadata: { name: 'b', namespace: 'n' },
        roleRef: { kind: 'Role', name: 'r' },
        subjects: [
          { kind: 'ServiceAccount', name: 's', namespace: 'm' },
          { kind: 'Group', name: 'g' },
        ],
      },
    ]);
    assert.deepEqual([...rights.keys()], ['m/s']);
    assert.deepEqual(rights.get('m/s')?.at(-1), {
      verb: 'list',
      group: '',
      resource: 'pods',
      subresource: 'log',
      namespace: 'n',
    });
  });
});
