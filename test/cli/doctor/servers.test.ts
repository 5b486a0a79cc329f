import assert from 'node:assert/strict';
import { checkKubernetes } from '../../../cli/doctor/checks/kubernetes.js';
import { checkTemporal } from '../../../cli/doctor/checks/temporal.js';
import type { ClusterFacts } from '../../../cli/doctor/cluster.js';
import { read } from '../../../cli/doctor/reading.js';
import type { TemporalFacts } from '../../../cli/doctor/temporal.js';
import { isOlder } from '../../../cli/doctor/versions.js';
import { NOW, ago, forbidden, notFound, only } from './findings.js';

describe('doctor: servers', () => {
  const temporal: TemporalFacts = {
    address: 'a:7233',
    namespace: 'default',
    serverVersion: { value: '1.29.1' },
    retentionSeconds: { value: 86_400 },
    searchAttributes: {
      value: ['Namespace', 'Name', 'Uid', 'Phase', 'Source'].map((name) => `DataVolume${name}`),
    },
    sweep: { value: { paused: false, createdAt: new Date(ago(600)), lastRunAt: new Date(ago(5)) } },
    controlPollers: { value: [] },
    examination: forbidden,
  };
  const problems = (facts: Partial<TemporalFacts>): readonly string[] =>
    only(checkTemporal({ ...temporal, ...facts }, NOW), 'problem').map(({ found }) => found);

  it('Temporal: what is missing, too old, paused or late', () => {
    assert.deepEqual(problems({}), []);
    assert.deepEqual(problems({ serverVersion: { value: '1.19.9' } }), ['Temporal 1.19.9 at a:7233']);
    assert.deepEqual(problems({ retentionSeconds: notFound }), ['it does not exist']);
    assert.deepEqual(problems({ searchAttributes: { value: ['DataVolumeName'] } }), [
      'not registered: DataVolumeNamespace, DataVolumeUid, DataVolumePhase, DataVolumeSource',
    ]);
    const late = { value: { paused: false, createdAt: new Date(ago(600)), lastRunAt: new Date(ago(45)) } };
    assert.deepEqual(problems({ sweep: late }), ['it has not run for 45m']);
    assert.deepEqual(problems({ sweep: notFound }), ['it does not exist']);
  });

  it('versions are compared by number', () => {
    assert.ok(isOlder('v1.9.3', '1.30'));
    assert.ok(!isOlder('v1.35.4', '1.30'));
    assert.ok(!isOlder('1.30.0-rc.1', '1.30'));
    assert.ok(!isOlder('unknown', '1.30'));
  });

  it('Kubernetes: kinds, policy, and CDI beside us', () => {
    const crd = (name: string) => ({
      metadata: { name },
      spec: { versions: ['v1beta1', 'v1alpha1'].map((version) => ({ name: version, served: true })) },
      status: { conditions: [{ type: 'Established', status: 'True' }] },
    });
    const names = ['datavolumes', 'datasources', 'cdis', 'cdiconfigs', 'storageprofiles'].map(
      (name) => `${name}.cdi.kubevirt.io`,
    );
    const facts = (crds: readonly string[], more: object = {}) =>
      ({
        server: 'https://a',
        version: { value: 'v1.35.4' },
        crds: { value: crds.map(crd) },
        served: forbidden,
        policies: { value: ['dvflow-marks', 'dvflow-clone-source', 'dvflow-data-source'] },
        cdiDeployments: { value: [] },
        ...more,
      }) as unknown as ClusterFacts;
    const all = [...names, 'hostpathprovisioners.hostpathprovisioner.kubevirt.io'];
    assert.deepEqual(only(checkKubernetes(facts(all)), 'problem'), []);
    assert.match(
      only(checkKubernetes(facts(names)), 'problem')[0]?.found ?? '',
      /not served: hostpathprovisioners.* \(not installed\)/,
    );
    const rivals = checkKubernetes(facts(all, { cdiDeployments: { value: ['cdi/cdi-deployment'] } }));
    assert.match(only(rivals, 'problem')[0]?.means ?? '', /two controllers/);
    assert.equal(only(checkKubernetes(facts(all, { policies: { value: [] } })), 'problem').length, 3);
    const cloned = checkKubernetes(
      facts(all, { policies: { value: ['dvflow-marks', 'dvflow-data-source'] } }),
    );
    assert.deepEqual(
      only(cloned, 'problem').map(({ subject, means }) => [subject, means]),
      [
        [
          'policy dvflow-clone-source',
          'whoever may create a DataVolume can copy the disks of every namespace',
        ],
      ],
    );
    const unknown = facts([], { crds: forbidden, served: { value: all.map((name) => name.split('.')[0]) } });
    assert.deepEqual(only(checkKubernetes(unknown), 'problem'), []);
  });

  it('a question that is refused or late is an answer', async () => {
    const code = (number: number) =>
      read(() => Promise.reject(Object.assign(new Error('no'), { code: number })));
    assert.deepEqual(await code(404), { refused: 'no', kind: 'notFound' });
    assert.deepEqual(await code(7), { refused: 'no', kind: 'forbidden' });
    const late = await read(() => new Promise(() => undefined), 10);
    assert.deepEqual(late, { refused: 'no answer within 0.01 s', kind: 'other' });
  });
});
