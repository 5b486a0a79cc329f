import assert from 'node:assert/strict';
import type { V1Node, V1PersistentVolume } from '@kubernetes/client-node';
import { choosePlacement } from '../../activities/kubernetes/nodes.js';
import { POOL } from './support/fixtures.js';

const node = (name: string, { ready = 'True', labels = {}, unschedulable = false } = {}): V1Node => ({
  metadata: { name, labels: { 'kubernetes.io/hostname': `${name}.host`, ...labels } },
  spec: { unschedulable },
  status: { conditions: [{ type: 'Ready', status: ready }] },
});
const volume = (hostname: string, path: string, storage: string, annotations = {}): V1PersistentVolume => ({
  metadata: { annotations },
  spec: {
    capacity: { storage },
    hostPath: { path },
    nodeAffinity: {
      required: {
        nodeSelectorTerms: [
          { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [hostname] }] },
        ],
      },
    },
  },
});
const choose = (nodes: V1Node[], more: Partial<Parameters<typeof choosePlacement>[0]> = {}) =>
  choosePlacement({ nodes, volumes: [], topologies: [], pool: POOL, ...more });

describe('choosePlacement', () => {
  it('offers every Ready node, by its hostname label', () => {
    const { candidates, chosenBy } = choose([
      node('a'),
      node('b', { ready: 'False' }),
      node('c', { unschedulable: true }),
    ]);
    assert.equal(chosenBy, 'any');
    assert.deepEqual(candidates, [{ node: 'a', hostname: 'a.host', foreignBytes: 0 }]);
  });

  it("prefers the user's node to the scheduler's, and uses a named node although it is cordoned", () => {
    const nodes = [node('a', { unschedulable: true }), node('b')];
    const both = choose(nodes, { provisionOnNode: 'a', selectedNode: 'b' });
    assert.deepEqual([both.chosenBy, both.candidates.map((one) => one.node)], ['provisionOnNode', ['a']]);
    const selected = choose(nodes, { selectedNode: 'b' });
    assert.deepEqual(
      [selected.chosenBy, selected.candidates.map((one) => one.node)],
      ['selected-node', ['b']],
    );
  });

  it('offers only nodes on which the pool is placed, whoever names another', () => {
    const nodes = [node('a'), node('b')];
    const placed = new Set(['b']);
    assert.deepEqual(
      choose(nodes, { placed }).candidates.map((one) => one.node),
      ['b'],
    );
    for (const named of [{ provisionOnNode: 'a' }, { selectedNode: 'a' }])
      assert.match(
        choose(nodes, { placed, ...named }).reason ?? '',
        /^a is not chosen by spec.workload of the HostPathProvisioner of /,
      );
  });

  it('says why there is no candidate', () => {
    assert.equal(choose([]).reason, 'the cluster has no nodes');
    assert.equal(choose([node('a')], { provisionOnNode: 'x' }).reason, 'node x does not exist');
    const nameless = node('b', { labels: { 'kubernetes.io/hostname': '' } });
    assert.equal(
      choose([node('a', { ready: 'Unknown' }), nameless]).reason,
      'a is not Ready, b has no label kubernetes.io/hostname',
    );
  });

  it('keeps to allowedTopologies, one term or the other', () => {
    const topologies = [
      {
        matchLabelExpressions: [
          { key: 'zone', values: ['1', '2'] },
          { key: 'disk', values: ['ssd'] },
        ],
      },
      { matchLabelExpressions: [{ key: 'zone', values: ['3'] }] },
    ];
    const nodes = [
      node('a', { labels: { zone: '1', disk: 'ssd' } }),
      node('b', { labels: { zone: '1' } }),
      node('c', { labels: { zone: '3' } }),
    ];
    assert.deepEqual(
      choose(nodes, { topologies }).candidates.map((one) => one.node),
      ['a', 'c'],
    );
    assert.match(
      choose(nodes, { topologies, selectedNode: 'b' }).reason ?? '',
      /b is not in allowedTopologies/,
    );
  });

  it('takes an empty term of allowedTopologies for one that no node matches', () => {
    assert.match(choose([node('a')], { topologies: [{}] }).reason ?? '', /a is not in allowedTopologies/);
    const topologies = [
      { matchLabelExpressions: [] },
      { matchLabelExpressions: [{ key: 'zone', values: ['1'] }] },
    ];
    assert.deepEqual(
      choose([node('a'), node('b', { labels: { zone: '1' } })], { topologies }).candidates.map(
        (one) => one.node,
      ),
      ['b'],
    );
  });

  it('counts what others keep in the pool on that node', () => {
    const volumes = [
      volume('a.host', '/var/hpvolumes/pvc-1', '1Gi'),
      volume('a.host', '/var/hpvolumes/pvc-2', '1Gi', { hostPathProvisionerIdentity: 'dvflow' }),
      volume('a.host', '/var/hpvolumes-other/pvc-3', '1Gi'),
      volume('b.host', '/var/hpvolumes/pvc-4', '1Gi'),
    ];
    assert.deepEqual(
      choose([node('a'), node('b')], { volumes }).candidates.map((one) => one.foreignBytes),
      [2 ** 30, 2 ** 30],
    );
  });
});
