import assert from 'node:assert/strict';
import type { HostPathProvisioner } from '../../activities/kubernetes/objects.js';
import { poolsOn } from '../../workflows/examine-nodes.js';
import {
  choosePool,
  nodesOfPool,
  poolsOf,
  toldNodes,
  usablePools,
} from '../../activities/kubernetes/pools.js';
import { ApplicationFailure } from '../../activities/failures.js';

const storageClass = (parameters?: Record<string, string>) => ({
  metadata: { name: 'hostpath' },
  provisioner: 'kubevirt.io.hostpath-provisioner',
  ...(parameters ? { parameters } : {}),
});
const pool = (name: string) => ({ name, path: `/var/${name}`, useNamingPrefix: false });

describe('pools of HostPathProvisioners', () => {
  for (const [written, read] of [
    [true, true],
    ['true', true],
    ['True', true],
    [false, false],
    ['false', false],
    [undefined, false],
  ] as const) {
    it(`useNamingPrefix ${JSON.stringify(written)} means ${read}`, () => {
      const pathConfig = {
        path: '/var/hpvolumes/',
        ...(written === undefined ? {} : { useNamingPrefix: written }),
      };
      assert.deepEqual(poolsOf({ spec: { pathConfig } }), [
        { name: 'legacy', path: '/var/hpvolumes', useNamingPrefix: read },
      ]);
    });
  }

  it('takes every named pool, and overcommit only where it promises more', () => {
    const storagePools = [
      { name: 'local', path: '/srv/local', overcommit: 1 },
      { name: 'fast', path: '/srv/fast//', overcommit: 1.5 },
    ];
    assert.deepEqual(poolsOf({ spec: { storagePools } }), [
      { name: 'local', path: '/srv/local', useNamingPrefix: false },
      { name: 'fast', path: '/srv/fast', useNamingPrefix: false, overcommit: 1.5 },
    ]);
    assert.deepEqual(poolsOf({}), []);
  });

  it('chooses the pool that the class names, the one of pathConfig, or the only one', () => {
    const both = [pool('local'), pool('fast')];
    assert.equal(choosePool(storageClass({ storagePool: 'fast' }), both).name, 'fast');
    assert.equal(choosePool(storageClass(), [...both, pool('legacy')]).name, 'legacy');
    assert.equal(choosePool(storageClass(), [pool('local')]).name, 'local');
    assert.equal(
      choosePool(storageClass({ storagePool: 'legacy' }), [{ path: '/p', useNamingPrefix: false }]).path,
      '/p',
    );
  });

  for (const [what, parameters, pools, message] of [
    ['no pool', undefined, [], /no HostPathProvisioner/],
    [
      'several and none named',
      undefined,
      [pool('a'), pool('b')],
      /has no parameter storagePool, and the pools are a, b$/,
    ],
    ['another name', { storagePool: 'c' }, [pool('a')], /parameter storagePool is c, and the pools are a$/],
  ] as const) {
    it(`refuses a class with ${what}: StorageClassNotFound`, () => {
      assert.throws(
        () => choosePool(storageClass(parameters), pools),
        (error) =>
          error instanceof ApplicationFailure &&
          error.type === 'StorageClassNotFound' &&
          message.test(error.message),
      );
    });
  }
});

describe('pools in which volumes may be made', () => {
  const provisioner = (
    name: string,
    path: string,
    more: { workload?: object; nodes?: readonly string[] } = {},
  ): HostPathProvisioner => ({
    metadata: { name },
    spec: { pathConfig: { path }, ...(more.workload ? { workload: more.workload } : {}) },
    ...(more.nodes
      ? { status: { nodes: more.nodes.map((node) => ({ name: node, phase: 'Ready', message: '' })) } }
      : {}),
  });
  const ssd = { nodeSelector: { disk: 'ssd' } };
  const nodes = [
    { metadata: { name: 'w1', labels: { disk: 'ssd' } } },
    { metadata: { name: 'w2', labels: {} } },
    {
      metadata: { name: 'w3', labels: { disk: 'ssd' } },
      spec: { taints: [{ key: 'x', effect: 'NoSchedule' }] },
    },
  ];

  it('are none of those that prepareStorage refuses, and the reason is said', () => {
    const { pools, refusals } = usablePools([
      provisioner('bad', '/etc/hpvolumes'),
      provisioner('good', '/var/hpvolumes'),
    ]);
    assert.deepEqual(
      pools.map(({ path }) => path),
      ['/var/hpvolumes'],
    );
    assert.match(refusals.join(), /^HostPathProvisioner bad is refused: .*belongs to the operating system/);
    assert.throws(
      () => choosePool(storageClass({ storagePool: 'fast' }), pools, refusals),
      /the pools are legacy; HostPathProvisioner bad is refused: backing directory "\/etc\/hpvolumes"/,
    );
  });

  it('are on the nodes that the placement chooses, of several with one path on those of any', () => {
    const pool = { path: '/var/a' };
    const of = (...all: HostPathProvisioner[]) => [...(nodesOfPool(pool, all, nodes) ?? [])];
    assert.deepEqual(of(provisioner('a', '/var/a', { workload: ssd })), ['w1']);
    assert.deepEqual(of(provisioner('a', '/var/a/')), ['w1', 'w2']);
    const others = { nodeSelector: { disk: 'hdd' } };
    assert.deepEqual(of(provisioner('a', '/var/a', { workload: others })), []);
    assert.deepEqual(
      of(provisioner('a', '/var/a', { workload: others }), provisioner('b', '/var/a', { workload: ssd })),
      ['w1'],
    );
    assert.equal(nodesOfPool(pool, [provisioner('b', '/var/b')], nodes), undefined);
  });

  it('are looked at on the nodes that a status tells, or on all where none does', () => {
    const placed = toldNodes([
      provisioner('a', '/var/a', { nodes: ['w1'] }),
      provisioner('b', '/var/b'),
      provisioner('c', '/var/c', { nodes: [] }),
      provisioner('d', '/var/a', { nodes: ['w2'] }),
    ]);
    assert.deepEqual(placed, { '/var/a': ['w1', 'w2'], '/var/c': [] });
    const pools = ['/var/a', '/var/b', '/var/c'].map((path) => ({ path, useNamingPrefix: false }));
    const on = (node: string) => poolsOn(node, pools, placed).map(({ path }) => path);
    assert.deepEqual([on('w1'), on('w3')], [['/var/a', '/var/b'], ['/var/b']]);
    assert.deepEqual(poolsOn('w1', pools, undefined), pools);
  });
});
