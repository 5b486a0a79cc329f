import assert from 'node:assert/strict';
import { checkControl, checkNodeWorkers } from '../../../cli/doctor/checks/workers.js';
import { remediesFor } from '../../../cli/doctor/remedies.js';
import { workerIdentity } from '../../../workers/version.js';
import { NOW, forbidden } from './findings.js';

describe('doctor: workers', () => {
  const remedies = remediesFor({ deployed: { control: true, node: true } }, false);
  const context = { version: '0.1.0', now: NOW, remedies };
  const poller = (identity: string, seconds: number) => ({
    identity,
    lastSeen: new Date(NOW - seconds * 1000),
  });
  const report = { version: '0.1.0', nodeVersion: '24.0.0', root: true, pools: [] };
  const examined = (more: object = {}) => ({
    value: { pools: [], nodes: [{ node: 'n', report: { ...report, node: 'n', ...more } }] },
  });

  it('of another version than this program are a warning', () => {
    const pollers = { value: [poller('dvflow/0.0.9 node/24.0.0 1@a', 5), poller(workerIdentity(), 5)] };
    const [finding] = checkControl({ examination: examined(), controlPollers: pollers }, context);
    assert.equal(finding?.level, 'warning');
    assert.match(finding?.found ?? '', /2 workers answer, dvflow 0\.0\.9 on Node 24\.0\.0/);
  });

  it('that do not answer are a problem, however lately they were seen', () => {
    const controlPollers = { value: [poller('1@a', 20), poller('2@a', 200)] };
    const [finding] = checkControl({ examination: forbidden, controlPollers }, context);
    assert.deepEqual(
      [finding?.level, finding?.found],
      ['problem', 'no control worker answers (last seen 20s ago)'],
    );
    const node = { name: 'n', ready: true, pollers: [poller('1@n', 20)] };
    const silent = { value: { pools: [], nodes: [{ node: 'n' }] } };
    const [dead] = checkNodeWorkers([node], { examination: silent }, context);
    assert.equal(dead?.level, 'problem');
    assert.match(dead?.todo ?? '', /kubectl -n dvflow-nodes get pods/);
  });

  it('without root are a warning; a node that is not Ready is a problem', () => {
    const node = { name: 'n', ready: true, pollers: [] };
    assert.equal(
      checkNodeWorkers([node], { examination: examined({ root: false }) }, context)[0]?.level,
      'warning',
    );
    const away = checkNodeWorkers([{ ...node, ready: false }], { examination: examined() }, context);
    assert.equal(away[0]?.todo, 'kubectl describe node n');
  });
});
