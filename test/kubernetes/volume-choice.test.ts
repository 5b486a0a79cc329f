import assert from 'node:assert/strict';
import type { V1Node, V1PersistentVolume } from '@kubernetes/client-node';
import { judgeInput } from '../../activities/kubernetes/local-volume-input.js';
import { nodesOf } from '../../activities/kubernetes/node-affinity.js';
import {
  chooseVolumes,
  refuseForGood,
  type WantedVolume,
} from '../../activities/kubernetes/volume-choice.js';
import type { LocalBlockVolumeInput } from '../../activities/types/local-volumes.js';

const node = (name: string, ready = 'True'): V1Node => ({
  metadata: { name, labels: { 'kubernetes.io/hostname': name, zone: name === 'node01' ? 'a' : 'b' } },
  status: { conditions: [{ type: 'Ready', status: ready }] },
});
const NODES = [node('node01'), node('node02')];

const onNode = (...values: string[]) => ({
  required: {
    nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values }] }],
  },
});

function volume(
  name: string,
  spec: Partial<V1PersistentVolume['spec']> = {},
  phase = 'Available',
  labels = {},
): V1PersistentVolume {
  return {
    metadata: { name, labels },
    spec: {
      accessModes: ['ReadWriteOnce'],
      capacity: { storage: '2Gi' },
      storageClassName: 'local',
      volumeMode: 'Block',
      local: { path: `/dev/${name}` },
      nodeAffinity: onNode('node01'),
      ...spec,
    },
    status: { phase },
  };
}

const WANTED: WantedVolume = {
  namespace: 'team-a',
  name: 'vm1',
  storageClass: 'local',
  volumeMode: 'Block',
  accessModes: ['ReadWriteOnce'],
  requestBytes: 2 ** 31,
};

describe('the choice of a static volume', () => {
  const choose = (volumes: V1PersistentVolume[], wanted: Partial<WantedVolume> = {}, nodes = NODES) => {
    const { fitting, why } = chooseVolumes({ ...WANTED, ...wanted }, volumes, nodes);
    return {
      names: fitting.map((found) => `${found.volume.metadata?.name} on ${found.node.metadata?.name}`),
      why,
    };
  };

  it('takes the smallest that is large enough, then the first by name', () => {
    const volumes = [
      volume('large', { capacity: { storage: '10Gi' } }),
      volume('b'),
      volume('a', { nodeAffinity: onNode('node02') }),
      volume('small', { capacity: { storage: '2000Mi' } }),
    ];
    assert.deepEqual(choose(volumes).names, ['a on node02', 'b on node01', 'large on node01']);
  });

  const refusals: [string, V1PersistentVolume, Partial<WantedVolume>, RegExp][] = [
    [
      'one that is too small',
      volume('x', { capacity: { storage: '2000Mi' } }),
      {},
      /x has 2097152000 bytes, the claim asks for 2147483648/,
    ],
    [
      'another mode',
      volume('x', { volumeMode: 'Filesystem' }),
      {},
      /has volumeMode Filesystem, the claim asks for Block/,
    ],
    [
      'another access mode',
      volume('x'),
      { accessModes: ['ReadWriteMany'] },
      /does not offer accessMode ReadWriteMany/,
    ],
    [
      'what is not local',
      volume('x', { local: undefined, nfs: { server: 's', path: '/' } } as never),
      {},
      /is not a local volume/,
    ],
    [
      'one that the selector leaves out',
      volume('x', {}, 'Available', { node: 'node02' }),
      { selector: { matchLabels: { node: 'node01' } } },
      /does not match the selector/,
    ],
    [
      'a bound one',
      volume('x', { claimRef: { namespace: 'b', name: 'c', uid: 'u' } }, 'Bound'),
      {},
      /is Bound and has claimRef b\/c/,
    ],
    [
      'one that is kept for another claim',
      volume('x', { claimRef: { namespace: 'b', name: 'c' } }),
      {},
      /is Available and has claimRef b\/c/,
    ],
    [
      'a released one',
      volume('x', { claimRef: { namespace: 'team-a', name: 'vm1', uid: 'old' } }, 'Released'),
      {},
      /is Released/,
    ],
    ['one without a phase yet', volume('x', {}, 'Pending'), {}, /is Pending/],
    ['another node', volume('x'), { node: 'node02' }, /is on node node01, not on node02/],
    ['no node', volume('x', { nodeAffinity: onNode('gone') }), {}, /is on no node of the cluster/],
    [
      'several nodes',
      volume('x', { nodeAffinity: onNode('node01', 'node02') }),
      {},
      /does not say which of 2 nodes/,
    ],
  ];
  for (const [what, found, wanted, message] of refusals) {
    it(`refuses ${what}, and says so`, () => {
      const { names, why } = choose([found], wanted);
      assert.deepEqual(names, []);
      assert.match(why, message);
    });
  }

  it('refuses one whose node is not Ready, and one whose device another volume has offered already', () => {
    assert.match(
      choose([volume('x')], {}, [node('node01', 'False')]).why,
      /x is on node node01, which is not Ready/,
    );
    const twin = volume(
      'twin',
      { local: { path: '/dev/x/' }, claimRef: { namespace: 'b', name: 'c', uid: 'u' } },
      'Bound',
    );
    assert.match(choose([volume('x'), twin]).why, /x has the path of PersistentVolume twin, which is Bound/);
    const elsewhere = { ...twin, spec: { ...twin.spec, nodeAffinity: onNode('node02') } };
    assert.deepEqual(choose([volume('x'), elsewhere]).names, ['x on node01']);
  });

  it('takes one that an administrator kept for just this claim', () => {
    assert.deepEqual(choose([volume('x', { claimRef: { namespace: 'team-a', name: 'vm1' } })]).names, [
      'x on node01',
    ]);
  });

  it('looks at no other class, unless the volume is named or selected without one', () => {
    const other = volume('x', { storageClassName: 'other' });
    assert.match(choose([other]).why, /of StorageClass "local" .* there is none/);
    assert.match(choose([other], { volumeName: 'x' }).why, /is of StorageClass "other", not "local"/);
    const { storageClass: _, ...anyClass } = WANTED;
    assert.equal(chooseVolumes(anyClass, [other], NODES).fitting.length, 1);
  });

  it('refuses at once what a volume that is named can never be', () => {
    assert.doesNotThrow(() => refuseForGood(volume('x', {}, 'Bound'), WANTED));
    assert.throws(() => refuseForGood(volume('x', { capacity: { storage: '1Gi' } }), WANTED), {
      type: 'IncompatiblePVC',
      message: /PersistentVolume x, which cannot serve claim team-a\/vm1: it has 1073741824 bytes/,
    });
  });

  it("reads nodeAffinity by Kubernetes' rules", () => {
    const names = (...terms: object[]) =>
      nodesOf(volume('x', { nodeAffinity: { required: { nodeSelectorTerms: terms } } }), NODES).map(
        ({ metadata }) => metadata?.name,
      );
    assert.deepEqual(names({ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['node02'] }] }), [
      'node02',
    ]);
    assert.deepEqual(names({ matchExpressions: [{ key: 'zone', operator: 'NotIn', values: ['a'] }] }), [
      'node02',
    ]);
    assert.deepEqual(names({ matchExpressions: [{ key: 'gpu', operator: 'Exists' }] }, {}), []);
    assert.deepEqual(names({ matchExpressions: [{ key: 'gpu', operator: 'DoesNotExist' }] }), [
      'node01',
      'node02',
    ]);
  });
});

describe('the argument of localBlockVolume', () => {
  const judge = (input: object) => judgeInput(input as LocalBlockVolumeInput, 'block1');

  it('gives exactly the bytes that the quantity means, in whole blocks', () => {
    const bytes = (size: string | number) => judge({ node: 'node01', size }).bytes;
    assert.deepEqual(
      [bytes('2Gi'), bytes('2000Mi'), bytes('2G'), bytes(5000)],
      [2 ** 31, 2_097_152_000, 2_000_003_072, 8192],
    );
  });

  for (const [input, message] of [
    [{ size: '2Gi' }, /"node" is missing/],
    [{ node: 'node01' }, /"size" is undefined: not a size/],
    [{ node: 'node01', size: '2GiB' }, /"size" is "2GiB": not a size such as 2Gi/],
    [{ node: 'node01', size: '0' }, /not a size/],
    [{ node: 'node01', size: '9Pi' }, /more than 9007199254740991 bytes/],
    [{ node: 'node01', size: '2Gi', block: true }, /"block" is unknown: the argument has name, node, size/],
    [{ node: 'node01', size: '2Gi', preallocation: 'yes' }, /"preallocation" is neither/],
    [{ node: 'node01', size: '2Gi', labels: ['a=b'] }, /"labels" is not a map/],
    [{ node: 'node01', size: '2Gi', labels: { 'dvflow.io/x': 'y' } }, /is dvflow's own/],
  ] as const) {
    it(`refuses ${JSON.stringify(input)}`, () => {
      assert.throws(() => judge(input), { type: 'InvalidLocalVolume', message });
    });
  }
});
