import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { V1Node } from '@kubernetes/client-node';
import {
  holdsUnits,
  ignitionFor,
  labelsPaths,
  machineConfigBody,
  unitContents,
} from '../../../activities/kubernetes/preparation/machine-config.js';
import { poolOf, rolesFor } from '../../../activities/kubernetes/preparation/machine-pools.js';
import type { MachineConfig, MachineConfigPool } from '../../../activities/kubernetes/preparation/objects.js';
import { rolloutOf, type RolloutInput } from '../../../activities/kubernetes/preparation/rollout.js';

const GROUP = 'machineconfiguration.openshift.io';

describe('the MachineConfig of a HostPathProvisioner', () => {
  const body = machineConfigBody(
    { name: 'hostpath-provisioner', uid: 'u-1' },
    { role: 'worker', directories: [{ pool: 'legacy', path: '/var/hpvolumes' }], ignition: '3.1.0' },
  );
  const [unit] = body.spec?.config?.systemd?.units ?? [];

  it("has the documents' name, kind, role, version and unit", () => {
    assert.deepEqual(
      [body.apiVersion, body.kind, body.metadata.name, body.metadata.labels?.[`${GROUP}/role`]],
      [`${GROUP}/v1`, 'MachineConfig', '50-set-selinux-for-hostpath-provisioner-worker', 'worker'],
    );
    assert.equal(body.spec?.config?.ignition?.version, '3.1.0');
    assert.deepEqual([unit?.name, unit?.enabled], ['hostpath-provisioner.service', true]);
  });

  for (const name of ['kubelet', 'crio', 'sshd']) {
    it(`leaves the node's own ${name}.service alone when a HostPathProvisioner has its name`, () => {
      const { spec } = machineConfigBody(
        { name, uid: 'u-1' },
        { role: 'worker', directories: [{ pool: 'legacy', path: '/var/a' }], ignition: '3.2.0' },
      );
      assert.deepEqual(
        spec?.config?.systemd?.units?.map((one) => one.name),
        [`dvflow-hostpath-${name}.service`],
      );
    });
  }

  it('holds the kubelet back until the label is there, makes the directory, and stays visible', () => {
    const lines = unit?.contents?.split('\n') ?? [];
    for (const line of [
      'Before=kubelet.service',
      'Type=oneshot',
      'RemainAfterExit=yes',
      'ExecStartPre=-/usr/bin/mkdir -p -- /var/hpvolumes',
      'ExecStart=/usr/bin/chcon -Rt container_file_t -- /var/hpvolumes',
      'WantedBy=multi-user.target',
    ])
      assert.ok(lines.includes(line), line);
  });

  it('is a unit that systemd takes, with any path', () => {
    const directory = mkdtempSync(join(tmpdir(), 'dvflow-unit-'));
    try {
      const file = join(directory, 'hostpath-provisioner.service');
      const paths = [
        '/var/hpvolumes',
        '/var/with space',
        '/var/100%n',
        '/var/$HOME',
        '/var/"quoted"\\',
        "/var/it's",
      ];
      writeFileSync(file, unitContents(paths));
      const said = execFileSync('systemd-analyze', ['verify', file], { encoding: 'utf8', stdio: 'pipe' });
      assert.equal(said, '');
    } finally {
      rmSync(directory, { recursive: true });
    }
    const hard = unitContents(['/var/100%n $X"\\']);
    assert.ok(
      hard.includes('ExecStart=/usr/bin/chcon -Rt container_file_t -- "/var/100%%n $$X\\"\\\\"\n'),
      hard,
    );
  });

  for (const [rendered, version] of [
    [[], '3.2.0'],
    [[undefined], '3.2.0'],
    [['2.2.0'], '2.2.0'],
    [['3.1.0'], '3.1.0'],
    [['3.2.0'], '3.2.0'],
    [['3.4.0'], '3.2.0'],
    [['3.4.0', '3.1.0'], '3.1.0'],
    [['3.2.0', '2.2.0'], '2.2.0'],
    [['nonsense'], '3.2.0'],
  ] as const) {
    it(`is of Ignition ${version} where the cluster renders ${rendered.join(', ') || 'nothing'}`, () => {
      assert.equal(ignitionFor(rendered), version);
    });
  }

  const withUnit = (contents: string, enabled = true): MachineConfig => ({
    metadata: { name: 'x', uid: 'x' },
    spec: { config: { systemd: { units: [{ name: 'hostpath-provisioner.service', enabled, contents }] } } },
  });
  it("recognises an administrator's that does the same: the documents' and upstream's", () => {
    const documented = '[Service]\nExecStart=/usr/bin/chcon -Rt container_file_t /var/hpvolumes\n';
    const upstream =
      '[Service]\nType=oneshot\nExecStartPre=-mkdir -p /var/hpvolumes\n' +
      'ExecStart=/usr/bin/chcon -Rt container_file_t /var/hpvolumes/\n';
    for (const contents of [documented, upstream])
      assert.equal(labelsPaths(withUnit(contents), ['/var/hpvolumes']), true);
    assert.equal(labelsPaths(withUnit(documented), ['/var/hpvolumes', '/var/other']), false);
    assert.equal(labelsPaths(withUnit(documented), ['/hpvolumes']), false);
    assert.equal(labelsPaths(withUnit(documented, false), ['/var/hpvolumes']), false);
    assert.equal(
      labelsPaths(withUnit('ExecStart=/usr/bin/chcon -Rt var_t /var/hpvolumes'), ['/var/hpvolumes']),
      false,
    );
    assert.equal(labelsPaths(body, ['/var/hpvolumes']), true);
  });

  for (const [options, does] of [
    ['-t container_file_t', false],
    ['-t container_file_t --', false],
    ['-v -t container_file_t', false],
    ['-R -t container_file_t', true],
    ['-vR -t container_file_t --', true],
    ['--recursive -t container_file_t', true],
  ] as const) {
    it(`takes chcon ${options} for ${does ? 'the same' : 'less: volumes inside keep their label'}`, () =>
      assert.equal(
        labelsPaths(withUnit(`ExecStart=/usr/bin/chcon ${options} /var/hpvolumes`), ['/var/hpvolumes']),
        does,
      ));
  }

  it('is found in a rendered configuration only as it is now', () => {
    const other = machineConfigBody(
      { name: 'hostpath-provisioner', uid: 'u-1' },
      { role: 'worker', directories: [{ pool: 'legacy', path: '/var/other' }], ignition: '3.1.0' },
    );
    assert.equal(holdsUnits(body, body), true);
    assert.equal(holdsUnits(other, body), false);
    assert.equal(holdsUnits({ metadata: body.metadata }, body), false);
  });
});

const role = (name: string): Record<string, string> => ({ [`node-role.kubernetes.io/${name}`]: '' });
const pool = (name: string, selector?: object): MachineConfigPool => ({
  metadata: { name, uid: name },
  spec: {
    nodeSelector: { matchLabels: role(name) },
    machineConfigSelector: selector ?? { matchLabels: { [`${GROUP}/role`]: name } },
  },
});
const inRoles = (...values: string[]): object => ({
  matchExpressions: [{ key: `${GROUP}/role`, operator: 'In', values }],
});
const node = (labels: object, more: object = {}): V1Node =>
  ({ metadata: { name: 'n', labels, ...more } }) as unknown as V1Node;

describe('the MachineConfigPool of a node', () => {
  const pools = [
    pool('worker'),
    pool('master'),
    pool('infra', inRoles('worker', 'infra')),
    pool('gpu', inRoles('worker', 'gpu')),
  ];
  for (const [labels, expected] of [
    [role('worker'), 'worker'],
    [role('master'), 'master'],
    // compact clusters: the configuration of worker never reaches such a node
    [{ ...role('worker'), ...role('master') }, 'master'],
    [{ ...role('worker'), ...role('infra') }, 'infra'],
    [role('infra'), 'infra'],
  ] as const) {
    it(`${Object.keys(labels).join(' and ')}: ${expected}`, () => {
      const found = poolOf(node(labels), pools);
      assert.equal(typeof found === 'string' ? found : found.metadata.name, expected);
    });
  }
  it('is none for two custom roles, for a custom master, and without a role', () => {
    assert.match(
      poolOf(node({ ...role('infra'), ...role('gpu') }), pools) as string,
      /2 custom MachineConfigPools \(gpu, infra\)/,
    );
    assert.match(poolOf(node({ ...role('infra'), ...role('master') }), pools) as string, /does not support/);
    assert.match(poolOf(node({}), pools) as string, /no MachineConfigPool selects it/);
  });
});

describe('the roles that reach pools', () => {
  it('are as few as can be: a custom pool that inherits from worker needs no second one', () => {
    const infra = pool('infra', inRoles('worker', 'infra'));
    assert.deepEqual(rolesFor([infra, pool('worker'), pool('master')]).roles, [
      { role: 'master', pools: ['master'] },
      { role: 'worker', pools: ['worker', 'infra'] },
    ]);
  });
  it("are a custom pool's own where its nodes alone are to be changed", () => {
    assert.deepEqual(rolesFor([pool('infra', inRoles('worker', 'infra'))]).roles, [
      { role: 'infra', pools: ['infra'] },
    ]);
    assert.deepEqual(rolesFor([pool('x', inRoles('worker', 'other'))]).roles, [
      { role: 'other', pools: ['x'] },
    ]);
    assert.deepEqual(rolesFor([pool('x', inRoles('worker'))]).roles, [{ role: 'worker', pools: ['x'] }]);
  });
  it('are none for a pool that goes by another label', () => {
    const { roles, unreachable } = rolesFor([pool('odd', { matchLabels: { team: 'a' } })]);
    assert.deepEqual(roles, []);
    assert.match(unreachable.odd ?? '', /selects no MachineConfig by the label/);
  });
});

describe('a rollout, by the order that no race deceives', () => {
  const configs = ['50-set'];
  const done = (name: string, rendered = 'rendered-2', more: object = {}): V1Node => ({
    metadata: {
      name,
      annotations: {
        [`${GROUP}/currentConfig`]: rendered,
        [`${GROUP}/desiredConfig`]: rendered,
        [`${GROUP}/state`]: 'Done',
      },
    },
    status: { conditions: [{ type: 'Ready', status: 'True' }] },
    ...more,
  });
  const working = (name: string, state: string, more: object = {}): V1Node => ({
    metadata: {
      name,
      annotations: {
        [`${GROUP}/currentConfig`]: 'rendered-1',
        [`${GROUP}/desiredConfig`]: 'rendered-2',
        [`${GROUP}/state`]: state,
        [`${GROUP}/reason`]: "can't reconcile config",
      },
    },
    ...more,
  });
  const updated = [
    { type: 'Updated', status: 'True' },
    { type: 'Degraded', status: 'False' },
  ];
  const at = (
    { spec = {}, status = {} }: { spec?: object; status?: object } = {},
    nodes: V1Node[] = [done('a'), done('b')],
    more: Partial<RolloutInput> = {},
  ) =>
    rolloutOf({
      pool: {
        metadata: { name: 'worker', uid: 'w', generation: 5 },
        spec: {
          configuration: { name: 'rendered-2', source: [{ name: '00-worker' }, { name: '50-set' }] },
          ...spec,
        },
        status: {
          observedGeneration: 5,
          configuration: { name: 'rendered-2' },
          conditions: updated,
          ...status,
        },
      },
      nodes,
      configs,
      rendered: true,
      ...more,
    });

  it('is done when everything says so', () => {
    const { state, done: nodes, message } = at();
    assert.deepEqual([state, nodes], ['done', ['a', 'b']]);
    assert.equal(message, 'MachineConfigPool worker: all 2 nodes run rendered-2');
  });

  const old = { configuration: { name: 'rendered-1', source: [{ name: '00-worker' }] } };
  for (const [title, state, message, facts] of [
    [
      'right after the MachineConfig was made: Updated of the one before',
      'rendering',
      /does not hold 50-set yet/,
      at({ spec: old, status: { configuration: { name: 'rendered-1' } } }, [done('a', 'rendered-1')], {
        rendered: false,
      }),
    ],
    [
      'after a change of the MachineConfig: its name is in the old one too',
      'rendering',
      /rendered-2 does not hold the newest 50-set/,
      at({}, [done('a')], { rendered: false }),
    ],
    [
      'rendered, and not yet looked at',
      'updating',
      /has not looked at rendered-2 yet/,
      at({ status: { observedGeneration: 4 } }),
    ],
    [
      'nodes waiting for their turn',
      'updating',
      /1 of 2 nodes done; node b waits for its turn/,
      at({}, [done('a'), done('b', 'rendered-1')]),
    ],
    [
      'a node at work',
      'updating',
      /node b is at work \(Working\)/,
      at({}, [done('a'), working('b', 'Working')]),
    ],
    [
      'a node that reboots',
      'updating',
      /node b is at work: it is not Ready since 2026-01-01T00:00:00.000Z/,
      at({}, [
        done('a'),
        working('b', 'Working', {
          status: {
            conditions: [{ type: 'Ready', status: 'Unknown', lastTransitionTime: '2026-01-01T00:00:00Z' }],
          },
        }),
      ]),
    ],
    [
      'done, but still cordoned',
      'updating',
      /node b has rendered-2, but it is cordoned/,
      at({}, [done('a'), done('b', 'rendered-2', { spec: { unschedulable: true } })]),
    ],
    [
      'all nodes done, the operator slower',
      'updating',
      /does not say Updated yet/,
      at({ status: { conditions: [] } }),
    ],
    [
      'status.configuration behind',
      'updating',
      /does not say Updated yet/,
      at({ status: { configuration: { name: 'rendered-1' } } }),
    ],
    [
      'paused before it rolled out',
      'paused',
      /it is paused: set spec.paused to false/,
      at({ spec: { paused: true } }, [done('a', 'rendered-1')]),
    ],
    [
      'a degraded node, with its reason',
      'degraded',
      /0 of 1 nodes done; node a is degraded: can't reconcile config/,
      at({}, [working('a', 'Degraded')]),
    ],
    [
      'an unreconcilable node',
      'degraded',
      /node a is unreconcilable: can't reconcile config/,
      at({}, [working('a', 'Unreconcilable')]),
    ],
    [
      'a configuration that cannot be rendered',
      'degraded',
      /cannot be rendered: invalid Ignition config found/,
      at({
        status: {
          conditions: [{ type: 'RenderDegraded', status: 'True', message: 'invalid Ignition config found' }],
        },
      }),
    ],
    [
      'NodeDegraded of the pool',
      'degraded',
      /Node c is reporting: "x"/,
      at({
        status: {
          conditions: [
            ...updated,
            { type: 'NodeDegraded', status: 'True', message: 'Node c is reporting: "x"' },
          ],
        },
      }),
    ],
    ['an empty pool', 'done', /it has no nodes/, at({}, [])],
    ['paused, but all done before', 'done', /all 2 nodes run/, at({ spec: { paused: true } })],
  ] as const) {
    it(`${title}: ${state}`, () => {
      assert.deepEqual([facts.state, message.test(facts.message)], [state, true], facts.message);
    });
  }

  it('counts no node as done while its configuration is an older one of ours', () => {
    const { done: nodes, nodes: open } = at({}, [done('a')], { rendered: false });
    assert.deepEqual([nodes, open], [[], { a: 'waits for the configuration' }]);
  });
});
