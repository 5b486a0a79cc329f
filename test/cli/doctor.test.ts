import assert from 'node:assert/strict';
import type { V1StorageClass } from '@kubernetes/client-node';
import { checkClasses } from '../../cli/doctor/checks/classes.js';
import { checkDataSources } from '../../cli/doctor/checks/data-sources.js';
import { checkDataVolumes, checkReleased } from '../../cli/doctor/checks/data-volumes.js';
import { checkKubernetes } from '../../cli/doctor/checks/kubernetes.js';
import { checkPools, checkProvisioners } from '../../cli/doctor/checks/pools.js';
import { checkTemporal } from '../../cli/doctor/checks/temporal.js';
import { checkControl, checkNodeWorkers } from '../../cli/doctor/checks/workers.js';
import type { ClusterFacts } from '../../cli/doctor/cluster.js';
import type { Finding } from '../../cli/doctor/findings.js';
import type { DataSourceObject, DataVolumeObject } from '../../cli/doctor/objects.js';
import { read } from '../../cli/doctor/reading.js';
import { remediesFor } from '../../cli/doctor/remedies.js';
import { expectedRights } from '../../cli/doctor/rights.js';
import type { TemporalFacts } from '../../cli/doctor/temporal.js';
import { isOlder } from '../../cli/doctor/versions.js';
import { findingsText } from '../../cli/render/findings.js';
import { workerIdentity } from '../../workers/version.js';

const NOW = Date.parse('2026-01-02T00:00:00Z');
const ago = (minutes: number): string => new Date(NOW - minutes * 60_000).toISOString();
const forbidden = { refused: 'nobody may', kind: 'forbidden' } as const;
const notFound = { refused: 'not found', kind: 'notFound' } as const;
const OWN = 'kubevirt.io/hostpath-provisioner';
const DEFAULT = 'storageclass.kubernetes.io/is-default-class';

/** Level and subject of each finding. */
const levels = (findings: readonly Finding[]): readonly string[] =>
  findings.map(({ level, subject }) => `${level} ${subject}`);
const only = (findings: readonly Finding[], level: Finding['level']): readonly Finding[] =>
  findings.filter((finding) => finding.level === level);

function storageClass(name: string, more: Partial<V1StorageClass> = {}): V1StorageClass {
  return { metadata: { name }, provisioner: OWN, ...more };
}

describe('doctor: StorageClasses', () => {
  const profile = (name: string) => ({
    metadata: { name },
    status: { claimPropertySets: [{ accessModes: ['ReadWriteOnce'], volumeMode: 'Filesystem' }] },
  });
  const marked = { metadata: { name: 'a', annotations: { [DEFAULT]: 'true' } } };
  const facts = (
    classes: readonly V1StorageClass[],
    more: Partial<Pick<ClusterFacts, 'profiles' | 'config' | 'provisioners'>> = {},
  ) => ({
    storageClasses: { value: classes },
    provisioners: {
      value: [{ metadata: { name: 'p' }, spec: { storagePools: [{ name: 'fast', path: '/fast' }] } }],
    },
    profiles: { value: classes.map(({ metadata }) => profile(metadata?.name ?? '')) },
    config: { value: { status: { filesystemOverhead: { global: '0.06' } } } },
    ...more,
  });

  it('are well where one of ours is the default, profiled and has its pool', () => {
    const findings = checkClasses(
      facts([storageClass('a', { ...marked, parameters: { storagePool: 'fast' } })]),
    );
    assert.deepEqual([...new Set(findings.map(({ level }) => level))], ['ok']);
  });

  it('are a problem where none is ours', () => {
    const [finding] = checkClasses(facts([storageClass('b', { ...marked, provisioner: 'example.com/csi' })]));
    assert.equal(finding?.level, 'problem');
    assert.match(finding?.found ?? '', /no class has the provisioner kubevirt\.io\/hostpath-provisioner/);
  });

  it('tell a pool that does not exist, with the names of those that do', () => {
    const [finding] = checkClasses(
      facts([storageClass('a', { ...marked, parameters: { storagePool: 'slow' } })]),
    );
    assert.match(finding?.found ?? '', /names slow; pools are: fast/);
  });

  it('warn of no default, and of several', () => {
    const [none] = only(checkClasses(facts([storageClass('a')])), 'warning');
    assert.match(none?.todo ?? '', /kubectl annotate storageclass a .*is-default-class=true/);
    const two = [
      storageClass('a', marked),
      storageClass('b', { metadata: { ...marked.metadata, name: 'b' } }),
    ];
    const [several] = only(checkClasses(facts(two)), 'warning');
    assert.match(several?.found ?? '', /2 classes are marked: a, b/);
    assert.match(several?.todo ?? '', /kubectl annotate storageclass b .*is-default-class-$/);
  });

  it('warn of a profile without modes, with the patch', () => {
    const findings = checkClasses(
      facts([storageClass('a', marked)], { profiles: { value: [{ metadata: { name: 'a' } }] } }),
    );
    assert.match(only(findings, 'warning')[0]?.todo ?? '', /kubectl patch storageprofile a --type merge/);
  });

  it('know scratch space of a class that does not exist, and no configuration at all', () => {
    const config = { value: { spec: { scratchSpaceStorageClass: 'gone' } } };
    const [gone] = only(checkClasses(facts([storageClass('a', marked)], { config })), 'problem');
    assert.match(gone?.found ?? '', /names gone, which does not exist/);
    const [none] = only(checkClasses(facts([storageClass('a', marked)], { config: notFound })), 'problem');
    assert.equal(none?.todo, 'kubectl apply -k deploy/defaults');
    const [refused] = only(
      checkClasses(facts([storageClass('a', marked)], { config: forbidden })),
      'warning',
    );
    assert.equal(refused?.found, 'not judged: nobody may');
  });
});

describe('doctor: DataVolumes', () => {
  function dataVolume(
    name: string,
    minutes: number,
    status: DataVolumeObject['status'] = {},
  ): DataVolumeObject {
    return {
      metadata: { name, namespace: 'a', uid: name, creationTimestamp: ago(minutes) },
      spec: { source: { http: { url: 'http://a/b' } } },
      status,
    };
  }
  const waiting = (minutes: number, phase = 'ImportScheduled') => ({
    phase,
    conditions: [
      {
        type: 'Running',
        status: 'False',
        reason: 'InsufficientCapacity',
        message: 'room',
        lastTransitionTime: ago(minutes),
      },
    ],
  });
  const check = (all: readonly DataVolumeObject[], runs: Record<string, 'running' | 'closed' | 'unknown'>) =>
    checkDataVolumes({ value: all }, { value: new Map(Object.entries(runs)) }, NOW);

  it('are counted', () => {
    const all = [dataVolume('x', 9, { phase: 'Succeeded' }), dataVolume('y', 9, { phase: 'Failed' })];
    assert.deepEqual(
      check(all, {}).map(({ found }) => found),
      ['2 in all, 0 under way, 1 Failed'],
    );
  });

  it('are a problem without a run, once a control worker has had the time to start one', () => {
    const all = [
      dataVolume('new', 0.5),
      dataVolume('old', 5),
      dataVolume('ended', 5, { phase: 'ImportInProgress' }),
    ];
    const findings = check(all, { new: 'unknown', old: 'unknown', ended: 'closed' });
    assert.deepEqual(levels(findings), ['ok under way', 'problem a/old', 'problem a/ended']);
    assert.match(findings[2]?.means ?? '', /Terminated/);
  });

  it('of a source that this release does not serve are a warning', () => {
    const storage = { dataSourceRef: { apiGroup: 'a', kind: 'Populator', name: 'p' } };
    const populated = { ...dataVolume('populated', 5), spec: { storage } };
    const [, finding] = check([populated], { populated: 'unknown' });
    assert.deepEqual(
      [finding?.level, /populated from outside .* is not served/.test(finding?.found ?? '')],
      ['warning', true],
    );
  });

  it('are told when they wait for long, but for a first consumer', () => {
    const all = [
      dataVolume('long', 60, waiting(30)),
      dataVolume('short', 60, waiting(3)),
      dataVolume('consumer', 60, waiting(30, 'WaitForFirstConsumer')),
    ];
    const findings = check(all, { long: 'running', short: 'running', consumer: 'running' });
    assert.deepEqual(levels(findings), ['ok under way', 'warning a/long']);
    assert.match(findings[1]?.found ?? '', /waits for 30m: InsufficientCapacity: room/);
  });

  it('are cut off after ten', () => {
    const all = Array.from({ length: 12 }, (_, index) => dataVolume(`d${index}`, 5));
    const findings = check(
      all,
      Object.fromEntries(all.map(({ metadata }) => [metadata.uid, 'unknown'] as const)),
    );
    assert.equal(findings.length, 12);
    assert.match(findings.at(-1)?.found ?? '', /2 more do not come on/);
  });

  it('released volumes of ours are told after ten minutes', () => {
    const volume = (minutes: number, identity: string) => ({
      metadata: { name: `pv-${minutes}`, annotations: { hostPathProvisionerIdentity: identity } },
      spec: { persistentVolumeReclaimPolicy: 'Delete' },
      status: { phase: 'Released', lastPhaseTransitionTime: new Date(ago(minutes)) },
    });
    const volumes = [volume(30, 'dvflow'), volume(3, 'dvflow'), volume(60, 'somebody')];
    const [finding, ...more] = checkReleased({ value: volumes }, NOW);
    assert.match(finding?.found ?? '', /^1 wait to be removed: pv-30$/);
    assert.deepEqual(more, []);
  });
});

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

describe('doctor: pools', () => {
  const check = (pool: object) =>
    checkPools({
      value: {
        pools: [],
        nodes: [
          {
            node: 'n',
            report: {
              node: 'n',
              version: '',
              nodeVersion: '',
              root: true,
              pools: [{ path: '/p', state: 'usable', totalBytes: 1000, roomBytes: 900, ...pool }],
            },
          },
        ],
      },
    })[0];

  it('with room on a file system of their own are well', () => assert.equal(check({})?.level, 'ok'));
  it('nearly full, or shared with the operating system, are warnings', () => {
    assert.match(check({ roomBytes: 50 })?.means ?? '', /InsufficientCapacity/);
    assert.match(
      check({ sharedWithOs: true })?.found ?? '',
      /shares a file system with the operating system/,
    );
  });
  it('with a label that keeps virtual machines out are a problem where it is enforced', () => {
    const level = (mode: string, labelled: boolean) =>
      check({ selinux: { mode, labelled, message: 'has the label var_t' } })?.level;
    assert.equal(level('enforcing', false), 'problem');
    assert.equal(level('permissive', false), 'warning');
    assert.equal(level('enforcing', true), 'ok');
    assert.equal(level('disabled', true), 'ok');
  });

  it('that are absent or unusable are problems', () => {
    assert.match(check({ state: 'absent' })?.todo ?? '', /mkdir -p \/p/);
    assert.equal(check({ state: 'unusable', message: 'EACCES' })?.found, 'EACCES');
  });

  it("a HostPathProvisioner's own conditions are told", () => {
    const provisioner = (type: string, status: string) => ({
      metadata: { name: 'h' },
      spec: { pathConfig: { path: '/p' } },
      status: { conditions: [{ type, status, reason: 'R', message: 'why' }] },
    });
    const level = (type: string, status: string) =>
      checkProvisioners({ value: [provisioner(type, status)] }).map((finding) => finding.level);
    assert.deepEqual(level('Degraded', 'True'), ['problem']);
    assert.deepEqual(level('Available', 'False'), ['warning']);
    assert.deepEqual(level('Progressing', 'True'), ['warning']);
    assert.deepEqual(level('Available', 'True'), ['ok']);
    const ready = provisioner('Available', 'True');
    for (const [title, one] of [
      ['nobody has looked at it', { ...ready, status: {} }],
      ['it has no status at all', { metadata: ready.metadata, spec: ready.spec }],
      [
        'it was changed since',
        {
          ...ready,
          metadata: { name: 'h', generation: 2 },
          status: { ...ready.status, observedGeneration: 1 },
        },
      ],
    ] as const) {
      const [finding] = checkProvisioners({ value: [one] });
      assert.equal(finding?.level, 'warning', title);
    }
    const current = { ...ready.status, observedGeneration: 2 };
    const judged = { ...ready, metadata: { name: 'h', generation: 2 }, status: current };
    assert.deepEqual(
      checkProvisioners({ value: [judged] }).map((finding) => finding.level),
      ['ok'],
    );
    assert.deepEqual(levels(checkProvisioners({ value: [] })), ['problem HostPathProvisioner']);
  });
});

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
