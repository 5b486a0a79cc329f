import assert from 'node:assert/strict';
import type { V1Node } from '@kubernetes/client-node';
import { refusalOf } from '../../../activities/backing-path.js';
import { chooseNodes } from '../../../activities/kubernetes/preparation/node-selection.js';
import type { WatchedProvisioner } from '../../../activities/kubernetes/preparation/objects.js';
import { factsOf, storageClassesOf } from '../../../activities/kubernetes/preparation/provisioner-spec.js';
import { readProvisionerManifest } from '../../../activities/kubernetes/preparation/provisioners.js';
import { storageClassBody } from '../../../activities/kubernetes/preparation/storage-classes.js';
import { statusOf } from '../../../activities/kubernetes/preparation/status.js';

const provisioner = (
  spec: WatchedProvisioner['spec'] & object,
  annotations: Record<string, string> = {},
): WatchedProvisioner => ({ metadata: { name: 'hpp', uid: 'u', generation: 3, annotations }, spec });

describe('the specification of a HostPathProvisioner', () => {
  for (const [title, spec, directories] of [
    [
      'the path of v1beta1',
      { pathConfig: { path: '/var/hpvolumes', useNamingPrefix: false } },
      ['legacy', '/var/hpvolumes'],
    ],
    [
      'the string of v1alpha1',
      { pathConfig: { path: '/var/hpvolumes/', useNamingPrefix: 'false' } },
      ['legacy', '/var/hpvolumes'],
    ],
    ['a storage pool', { storagePools: [{ name: 'local', path: '/var/pool' }] }, ['local', '/var/pool']],
  ] as const) {
    it(`names its directory: ${title}`, () => {
      const facts = factsOf(provisioner(spec as WatchedProvisioner['spec'] & object));
      assert.deepEqual(facts.directories, [{ pool: directories[0], path: directories[1] }]);
      assert.deepEqual([facts.refused, facts.generation, facts.deadlineMs], [undefined, 3, 86_400_000]);
    });
  }

  for (const [path, why] of [
    ['/hpvolumes', /lies in the root directory \/, which is read-only on RHCOS/],
    ['/', /lies in the root directory/],
    ['hpvolumes', /no absolute path/],
    ['', /no absolute path/],
    ['/var/../hpvolumes', /not written out/],
    ['/var//hpvolumes', /not written out/],
    ['/var/hp\nvolumes', /control character/],
    ['/etc/hpvolumes', /belongs to the operating system \(\/etc\)/],
    ['/usr/local/volumes', /belongs to the operating system \(\/usr\)/],
    ['/var/lib/kubelet/pods', /belongs to the operating system \(\/var\/lib\/kubelet\)/],
    ['/var/lib', /holds more than volumes/],
    ['/var/a b', /white space/],
    ['/var/a\u00a0b', /white space/],
    ['/opt/cni/bin', /belongs to the operating system \(\/opt\/cni\)/],
    ['/run/crio', /belongs to the operating system \(\/run\)/],
    ['/var/log/audit', /belongs to the operating system \(\/var\/log\)/],
    ['/var/lib/cni', /belongs to the operating system/],
    ['/var/lib/crio/pods', /belongs to the operating system/],
    ['/var/lib/systemd', /belongs to the operating system/],
    ['/var/lib/dvflow', /belongs to the operating system/],
    ['/home/core', /somebody's home directory/],
    ['/var/home/core', /somebody's home directory/],
    ['/var/roothome/.ssh', /what a person logs in with/],
    ['/home/core/.ssh/keys', /what a person logs in with/],
  ] as const) {
    it(`refuses ${JSON.stringify(path)}`, () => assert.match(refusalOf(path) ?? '', why));
  }

  for (const path of [
    '/var/hpvolumes',
    '/var/lib/hpvolumes',
    '/mnt/disk1',
    '/usrlocal/volumes',
    '/data/a-b/%n$x',
    '/var/lib/crios/volumes',
    '/home/core/volumes',
    '/opt/volumes',
  ]) {
    it(`takes ${path}`, () => assert.equal(refusalOf(path), undefined));
  }

  it('refuses pools in pools, pools in claims, and a deadline that is none', () => {
    const pools = [
      { name: 'a', path: '/var/a' },
      { name: 'b', path: '/var/a/b' },
    ];
    assert.match(
      factsOf(provisioner({ storagePools: pools })).refused ?? '',
      /\/var\/a\/b lies inside \/var\/a/,
    );
    const template = [{ name: 'a', path: '/var/a', pvcTemplate: {} }];
    assert.match(factsOf(provisioner({ storagePools: template })).refused ?? '', /pvcTemplate/);
    const never = provisioner({ pathConfig: { path: '/var/a' } }, { 'dvflow.io/deadline': 'never' });
    assert.match(factsOf(never).refused ?? '', /dvflow.io\/deadline is "never"/);
    const soon = provisioner({ pathConfig: { path: '/var/a' } }, { 'dvflow.io/deadline': '90m' });
    assert.equal(factsOf(soon).deadlineMs, 5_400_000);
  });
});

describe('a specification that no API server has seen', () => {
  for (const spec of [
    {},
    { pathConfig: null },
    { pathConfig: 'x' },
    { pathConfig: { path: 7 } },
    { storagePools: {} },
    { storagePools: [null, 'x', { name: 'a' }, { name: 1, path: 2 }] },
  ]) {
    it(`names no directory, and breaks nothing: ${JSON.stringify(spec)}`, () => {
      assert.deepEqual(factsOf(provisioner(spec as never)).directories, []);
    });
  }
});

describe('StorageClasses that are asked for', () => {
  const legacy = [{ pool: 'legacy', path: '/var/hpvolumes' }];
  const pools = [
    { pool: 'fast', path: '/var/fast' },
    { pool: 'slow', path: '/var/slow' },
  ];
  it('are none without the annotation', () => assert.deepEqual(storageClassesOf(undefined, legacy), []));
  it('are of the one pool by their name, of several by pool and name', () => {
    assert.deepEqual(storageClassesOf('hostpath-provisioner', legacy), [
      { name: 'hostpath-provisioner', pool: 'legacy' },
    ]);
    assert.deepEqual(storageClassesOf('fast=hostpath-fast, slow = hostpath-slow', pools), [
      { name: 'hostpath-fast', pool: 'fast' },
      { name: 'hostpath-slow', pool: 'slow' },
    ]);
  });
  for (const [text, why] of [
    ['hostpath', /with several storage pools write <pool>=<StorageClass>/],
    ['other=hostpath', /there is no pool "other"/],
    ['fast=Not_A_Name', /is not the name of a StorageClass/],
    ['fast=a,slow=a', /asked for twice/],
  ] as const) {
    it(`are refused: ${text}`, () => assert.match(storageClassesOf(text, pools) as string, why));
  }

  it("are the documents' own, with the provisioner of the pool's kind", () => {
    const common = { reclaimPolicy: 'Delete', volumeBindingMode: 'WaitForFirstConsumer' };
    const [a, b] = ['legacy', 'local'].map((pool) =>
      storageClassBody({ name: 'hpp', uid: 'u' }, { name: 'x', pool }),
    );
    assert.deepEqual([a?.provisioner, a?.parameters], ['kubevirt.io/hostpath-provisioner', undefined]);
    assert.deepEqual(
      [b?.provisioner, b?.parameters],
      ['kubevirt.io.hostpath-provisioner', { storagePool: 'local' }],
    );
    for (const one of [a, b]) {
      const { reclaimPolicy, volumeBindingMode } = one ?? {};
      assert.deepEqual({ reclaimPolicy, volumeBindingMode }, common);
    }
  });
});

describe('a manifest for the Temporal UI', () => {
  const spec = { pathConfig: { path: '/var/hpvolumes', useNamingPrefix: 'false' } };
  const metadata = { name: 'hpp' };
  it('is an object, JSON or YAML, of either version, and gets the mark of its workflow', () => {
    const yaml =
      'apiVersion: hostpathprovisioner.kubevirt.io/v1alpha1\nkind: HostPathProvisioner\nmetadata: {name: hpp}\n' +
      'spec: {pathConfig: {path: /var/hpvolumes, useNamingPrefix: "false"}}\n';
    const read = readProvisionerManifest(yaml, 'wf');
    assert.equal(read.version, 'v1alpha1');
    assert.deepEqual(read.body.spec, spec);
    assert.deepEqual(read.body.metadata.annotations, { 'dvflow.io/workflow-id': 'wf' });
    assert.equal(readProvisionerManifest(JSON.stringify({ metadata, spec }), 'wf').version, 'v1beta1');
  });
  for (const [title, manifest, why] of [
    ['nothing', '', /the manifest is empty/],
    ['two', 'a: 1\n---\nb: 2', /holds 2 manifests/],
    ['a list', '[]', /no HostPathProvisioner manifest/],
    ['another kind', { kind: 'DataVolume', metadata, spec }, /kind is "DataVolume"/],
    ['another version', { apiVersion: 'v1', metadata, spec }, /apiVersion is "v1"/],
    ['no name', { metadata: {}, spec }, /metadata.name is missing/],
    ['no spec', { metadata }, /spec is missing/],
  ] as const) {
    it(`is refused: ${title}`, () => {
      assert.throws(() => readProvisionerManifest(manifest as never, 'wf'), {
        type: 'InvalidHostPathProvisioner',
        message: why,
      });
    });
  }
});

describe('nodes that a workload placement chooses', () => {
  const node = (
    name: string,
    { labels = {}, taints = [] as object[], osImage = 'Debian GNU/Linux 12' } = {},
  ): V1Node =>
    ({
      metadata: { name, labels: { 'kubernetes.io/os': 'linux', ...labels } },
      spec: { taints },
      status: { nodeInfo: { osImage } },
    }) as unknown as V1Node;
  const taint = (key: string, effect = 'NoSchedule', value?: string): object => ({ key, effect, value });
  const master = node('master', { labels: { zone: 'a' }, taints: [taint('node-role.kubernetes.io/master')] });
  const nodes = [
    node('w2', { labels: { zone: 'b', disks: '4' } }),
    node('w1', { labels: { zone: 'a', disks: '12' } }),
    master,
    node('gpu', { taints: [taint('gpu', 'NoExecute', 'yes')] }),
    node('soft', { taints: [taint('soft', 'PreferNoSchedule')] }),
    node('ill', {
      taints: [taint('node.kubernetes.io/not-ready', 'NoExecute'), taint('node.kubernetes.io/unschedulable')],
    }),
    node('win', { labels: { 'kubernetes.io/os': 'windows' } }),
  ];
  const term = (...matchExpressions: object[]): object => ({ matchExpressions });
  const affinity = (...nodeSelectorTerms: object[]): object => ({
    nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } },
  });
  for (const [title, workload, expected] of [
    ['none: as a DaemonSet without tolerations', undefined, 'ill soft w1 w2 win'],
    ['null, as the documents print it', null, 'ill soft w1 w2 win'],
    ['nodeSelector', { nodeSelector: { 'kubernetes.io/os': 'linux' } }, 'ill soft w1 w2'],
    ['nodeSelector of nothing', { nodeSelector: { zone: 'c' } }, ''],
    [
      'tolerations by key',
      { tolerations: [{ key: 'gpu', operator: 'Equal', value: 'yes' }] },
      'gpu ill soft w1 w2 win',
    ],
    ['a toleration of another value', { tolerations: [{ key: 'gpu', value: 'no' }] }, 'ill soft w1 w2 win'],
    [
      'a toleration of another effect',
      { tolerations: [{ key: 'gpu', operator: 'Exists', effect: 'NoSchedule' }] },
      'ill soft w1 w2 win',
    ],
    [
      'a toleration of everything',
      { tolerations: [{ operator: 'Exists' }] },
      'gpu ill master soft w1 w2 win',
    ],
    [
      'affinity: one term or the other',
      {
        affinity: affinity(
          term({ key: 'zone', operator: 'In', values: ['b'] }),
          term({ key: 'disks', operator: 'Gt', values: ['10'] }),
        ),
      },
      'w1 w2',
    ],
    [
      'affinity: all of a term',
      {
        affinity: affinity(
          term({ key: 'zone', operator: 'Exists' }, { key: 'disks', operator: 'Lt', values: ['10'] }),
        ),
      },
      'w2',
    ],
    [
      'affinity by the name',
      { affinity: affinity({ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['w1'] }] }) },
      'w1',
    ],
    ['an empty term', { affinity: affinity({}) }, ''],
    [
      'affinity and selector',
      {
        nodeSelector: { zone: 'a' },
        affinity: affinity(term({ key: 'disks', operator: 'DoesNotExist' })),
        tolerations: [{ key: 'node-role.kubernetes.io/master', operator: 'Exists' }],
      },
      'master',
    ],
  ] as const) {
    it(title, () => {
      const { selected, total } = chooseNodes(nodes, workload, false);
      assert.equal(selected.map((one) => one.node).join(' '), expected);
      assert.equal(total, nodes.length);
    });
  }

  it('knows RHCOS by its label and its image, where there are MachineConfigs', () => {
    const image = 'Red Hat Enterprise Linux CoreOS 43.81.202003310153.0 (Ootpa)';
    const mixed = [
      node('rhcos', { osImage: image }),
      node('labelled', { labels: { 'node.openshift.io/os_id': 'rhcos' } }),
      node('rhel', { osImage: 'OpenShift Enterprise', labels: { 'node.openshift.io/os_id': 'rhel' } }),
    ];
    const by = (served: boolean) =>
      chooseNodes(mixed, undefined, served).selected.map((one) => `${one.node} ${one.labelledBy}`);
    assert.deepEqual(by(true), ['labelled machineConfig', 'rhcos machineConfig', 'rhel node']);
    assert.deepEqual(by(false), ['labelled node', 'rhcos node', 'rhel node']);
    assert.match(chooseNodes(mixed, undefined, false).notes.join(), /this cluster has no MachineConfigs/);
  });

  it('says that affinity among pods chooses no node', () => {
    assert.match(chooseNodes(nodes, { affinity: { podAffinity: {} } }, false).notes.join(), /other pods/);
  });
});

describe('the status that is written', () => {
  const at = new Date('2026-01-02T03:04:05.678Z');
  const update = {
    provisioner: { name: 'hpp', uid: 'u' },
    generation: 7,
    conditions: [{ type: 'Available', status: 'True', reason: 'Complete', message: 'm' } as const],
    nodes: [
      { name: 'a', phase: 'Ready', message: '' } as const,
      { name: 'b', phase: 'Degraded', message: '' } as const,
    ],
  };
  it('keeps the time of a condition that stays', () => {
    const old = {
      conditions: [{ type: 'Available', status: 'True', lastTransitionTime: '2025-01-01T00:00:00Z' }],
    };
    const kept = statusOf(old, update, at) as { conditions: { lastTransitionTime: string }[] };
    assert.equal(kept.conditions[0]?.lastTransitionTime, '2025-01-01T00:00:00Z');
    const turned = statusOf(
      { conditions: [{ ...old.conditions[0]!, status: 'False' }] },
      update,
      at,
    ) as typeof kept;
    assert.equal(turned.conditions[0]?.lastTransitionTime, '2026-01-02T03:04:05Z');
  });
  it('counts the nodes of a named pool', () => {
    const { storagePoolStatuses } = statusOf(undefined, { ...update, pools: ['local'] }, at) as Record<
      string,
      unknown
    >;
    assert.deepEqual(storagePoolStatuses, [
      { name: 'local', phase: 'Preparing', desiredReady: 2, currentReady: 1 },
    ]);
    assert.equal('storagePoolStatuses' in statusOf(undefined, update, at), false);
  });
});
