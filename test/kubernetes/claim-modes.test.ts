import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { V1PersistentVolume, V1StorageClass } from '@kubernetes/client-node';
import { parse } from 'yaml';
import { failureTypeOf } from '../../activities/failures.js';
import { completeModes } from '../../activities/kubernetes/claim-modes.js';
import type { ModeFacts } from '../../activities/kubernetes/claim-modes.js';
import { offeredSets } from '../../activities/kubernetes/claim-property-sets.js';
import type { ClaimPropertySet } from '../../activities/kubernetes/objects.js';
import { defaultStorageClass } from '../../activities/kubernetes/storage-classes.js';
import type { FailureType } from '../../activities/types.js';

const BOTH: readonly ClaimPropertySet[] = [
  { accessModes: ['ReadWriteMany'], volumeMode: 'Block' },
  { accessModes: ['ReadWriteOnce'], volumeMode: 'Block' },
  { accessModes: ['ReadWriteOnce'], volumeMode: 'Filesystem' },
];

const factsOf = (more: Partial<ModeFacts> = {}): ModeFacts => ({
  template: {},
  storageClass: 'c',
  defaults: {},
  sets: [],
  ...more,
});

describe('modes left out', () => {
  type Row = readonly [what: string, more: Partial<ModeFacts>, accessModes: string, volumeMode: string];
  const rows: readonly Row[] = [
    ['nothing known', {}, 'ReadWriteOnce', 'Filesystem'],
    ['the first set', { sets: BOTH }, 'ReadWriteMany', 'Block'],
    [
      'the first set that fits the volumeMode',
      { sets: BOTH, template: { volumeMode: 'Filesystem' } },
      'ReadWriteOnce',
      'Filesystem',
    ],
    [
      'the first set that fits the accessMode',
      { sets: BOTH, template: { accessModes: ['ReadWriteOnce'] } },
      'ReadWriteOnce',
      'Block',
    ],
    [
      'a volumeMode whose sets offer every accessMode together',
      { sets: [BOTH[2]!, ...BOTH], template: { accessModes: ['ReadWriteOnce', 'ReadWriteMany'] } },
      'ReadWriteOnce,ReadWriteMany',
      'Block',
    ],
    [
      'ReadWriteOncePod where ReadWriteOnce is offered',
      { sets: BOTH, template: { accessModes: ['ReadWriteOncePod'] } },
      'ReadWriteOncePod',
      'Block',
    ],
    [
      "the manifest before the ConfigMap's key of the class",
      {
        sets: BOTH,
        template: { accessModes: ['ReadWriteMany'], volumeMode: 'Block' },
        defaults: { 'c.accessMode': 'ReadWriteOnce', 'c.volumeMode': 'Filesystem' },
      },
      'ReadWriteMany',
      'Block',
    ],
    [
      'one attribute from the manifest, the other from the class key',
      {
        sets: BOTH,
        template: { accessModes: ['ReadWriteOnce'] },
        defaults: { 'c.accessMode': 'ReadWriteMany', 'c.volumeMode': 'Filesystem' },
      },
      'ReadWriteOnce',
      'Filesystem',
    ],
    [
      'the key of the class before the sets',
      { sets: BOTH, defaults: { 'c.volumeMode': 'Filesystem' } },
      'ReadWriteOnce',
      'Filesystem',
    ],
    [
      'the sets before the global keys',
      { sets: BOTH, defaults: { accessMode: 'ReadWriteOnce', volumeMode: 'Filesystem' } },
      'ReadWriteMany',
      'Block',
    ],
    [
      'the global keys where nothing is known of the class',
      { defaults: { accessMode: 'ReadWriteMany', volumeMode: 'Block' } },
      'ReadWriteMany',
      'Block',
    ],
    [
      'keys of another class, and what only looks like a key, say nothing',
      { defaults: { 'cc.accessMode': 'ReadWriteMany', 'c.volumemode': 'Block', 'c.accessModes': 'x' } },
      'ReadWriteOnce',
      'Filesystem',
    ],
    ['an empty value is none', { defaults: { 'c.accessMode': '' } }, 'ReadWriteOnce', 'Filesystem'],
    [
      'an archive gets a file system, whatever the class prefers',
      { sets: BOTH, contentType: 'archive', defaults: { 'c.volumeMode': 'Block' } },
      'ReadWriteOnce',
      'Filesystem',
    ],
    [
      "CDI's placeholder is no volumeMode",
      { sets: BOTH, template: { volumeMode: 'FromStorageProfile' } },
      'ReadWriteMany',
      'Block',
    ],
  ];
  for (const [what, more, accessModes, volumeMode] of rows) {
    it(what, () => {
      assert.deepEqual(completeModes(factsOf(more)), { accessModes: accessModes.split(','), volumeMode });
    });
  }

  it('a class named as a member of every object has no keys', () => {
    assert.equal(completeModes(factsOf({ storageClass: '__proto__' })).volumeMode, 'Filesystem');
  });

  type Refusal = readonly [what: string, more: Partial<ModeFacts>, type: FailureType, message: RegExp];
  const refusals: readonly Refusal[] = [
    [
      'a volumeMode that the class does not have, with what it has',
      { sets: BOTH.slice(2), template: { volumeMode: 'Block' } },
      'IncompatiblePVC',
      /^volumeMode is Block: StorageClass "c" offers ReadWriteOnce with Filesystem$/,
    ],
    [
      'an accessMode that the class has only with another volumeMode',
      { sets: BOTH, template: { accessModes: ['ReadWriteMany'], volumeMode: 'Filesystem' } },
      'IncompatiblePVC',
      /^accessMode is ReadWriteMany, and volumeMode is Filesystem: StorageClass "c" offers ReadWriteMany with Block, ReadWriteOnce with Block, ReadWriteOnce with Filesystem$/,
    ],
    [
      'what the ConfigMap says against the class, naming the key',
      { sets: BOTH.slice(2), defaults: { 'c.volumeMode': 'Block' } },
      'IncompatiblePVC',
      /^volumeMode is Block, as key "c.volumeMode" of ConfigMap kubevirt-storage-class-defaults says: .* offers/,
    ],
    [
      'an accessMode that no set has',
      { sets: BOTH, template: { accessModes: ['ReadOnlyMany'] } },
      'IncompatiblePVC',
      /^accessMode is ReadOnlyMany, and volumeMode is Filesystem, by default: /,
    ],
    [
      'a value of the ConfigMap that is no mode',
      { sets: BOTH, defaults: { 'c.accessMode': 'RWX' } },
      'IncompatiblePVC',
      /^key "c.accessMode" of ConfigMap kubevirt-storage-class-defaults is "RWX": it is one of ReadWriteOnce, /,
    ],
    [
      'a global value that is no mode, where it is needed',
      { defaults: { volumeMode: 'block' } },
      'IncompatiblePVC',
      /^key "volumeMode" .* is "block": it is one of Filesystem, Block$/,
    ],
    [
      'a volumeMode of the manifest that is none',
      { template: { volumeMode: 'block' } },
      'InvalidDataVolume',
      /^spec.storage.volumeMode is block/,
    ],
  ];
  for (const [what, more, type, message] of refusals) {
    it(`refuses ${what}`, () => {
      assert.throws(
        () => completeModes(factsOf(more)),
        (error: Error) => failureTypeOf(error) === type && message.test(error.message),
      );
    });
  }

  it('passes over values that are no modes where they are not needed', () => {
    const defaults = { accessMode: 'RWX', volumeMode: 'x', 'd.accessMode': 'x' };
    assert.equal(completeModes(factsOf({ sets: BOTH, defaults })).volumeMode, 'Block');
  });
});

describe("the documents' ConfigMap of two storage classes", () => {
  const file = new URL('../deploy/documented/storage-class-defaults.yaml', import.meta.url);
  const { data } = parse(readFileSync(file, 'utf8')) as { data: Record<string, string> };
  const classOf = (name: string, provisioner: string): V1StorageClass => ({
    metadata: { name },
    provisioner,
  });
  const modes = (storageClass: V1StorageClass, template = {}) =>
    completeModes({
      template,
      storageClass: storageClass.metadata?.name ?? '',
      defaults: data,
      sets: offeredSets(storageClass, undefined, []),
    });
  const nfs = classOf('nfs-sc', 'nfs.csi.k8s.io');
  const block = classOf('block-sc', 'openshift-storage.rbd.csi.ceph.com');

  it('gives each class its own modes, and every other one the defaults', () => {
    assert.deepEqual(modes(nfs), { accessModes: ['ReadWriteMany'], volumeMode: 'Filesystem' });
    assert.deepEqual(modes(block), { accessModes: ['ReadWriteMany'], volumeMode: 'Block' });
    assert.deepEqual(modes(classOf('other', 'csi.example')), {
      accessModes: ['ReadWriteOnce'],
      volumeMode: 'Filesystem',
    });
  });

  it('is refused where a class is not what the ConfigMap takes it for', () => {
    assert.throws(
      () => modes(classOf('block-sc', 'nfs.csi.k8s.io')),
      /volumeMode is Block, as key "block-sc.volumeMode" .* offers ReadWriteMany with Filesystem$/,
    );
  });
});

describe('what a class offers', () => {
  const local = (provisioner: string): V1StorageClass => ({ metadata: { name: 'local' }, provisioner });
  const volume = (accessModes: string[], volumeMode?: string, storageClassName = 'local') =>
    ({
      spec: { accessModes, storageClassName, ...(volumeMode ? { volumeMode } : {}) },
    }) as V1PersistentVolume;

  it('is what an operator wrote, before everything that is known', () => {
    const told = [{ accessModes: ['ReadWriteOncePod'], volumeMode: 'Filesystem' }];
    const profile = { spec: { claimPropertySets: told } };
    assert.deepEqual(offeredSets(local('kubevirt.io/hostpath-provisioner'), profile, []), told);
  });

  it('is nothing where an operator wrote sets without access modes', () => {
    const profile = { spec: { claimPropertySets: [{ accessModes: [], volumeMode: 'Block' }] } };
    assert.deepEqual(offeredSets(local('kubevirt.io/hostpath-provisioner'), profile, []), []);
  });

  it('is what its volumes are where an administrator makes them, in an order that does not change', () => {
    const volumes = [
      volume(['ReadWriteMany', 'ReadWriteOnce'], 'Block'),
      volume(['ReadWriteOnce']),
      volume(['ReadWriteOnce'], 'Filesystem'),
      volume(['ReadOnlyMany'], 'Filesystem', 'other'),
    ];
    const sets = [
      { accessModes: ['ReadWriteOnce'], volumeMode: 'Filesystem' },
      { accessModes: ['ReadWriteOnce'], volumeMode: 'Block' },
      { accessModes: ['ReadWriteMany'], volumeMode: 'Block' },
    ];
    const offered = (given: V1PersistentVolume[]) =>
      offeredSets(local('kubernetes.io/no-provisioner'), undefined, given);
    assert.deepEqual(offered(volumes), sets);
    assert.deepEqual(offered(volumes.toReversed()), sets);
    assert.deepEqual(offered([]), []);
  });

  it('is nothing where the provisioner is not known', () => {
    assert.deepEqual(offeredSets(local('csi.example'), undefined, [volume(['ReadWriteOnce'])]), []);
    assert.deepEqual(offeredSets(local('constructor'), undefined, []), []);
  });
});

describe('the default StorageClass', () => {
  const made = (name: string, year: number, ...marks: string[]): V1StorageClass => ({
    metadata: {
      name,
      creationTimestamp: new Date(Date.UTC(year, 0)),
      annotations: Object.fromEntries(marks.map((mark) => [mark, 'true'])),
    },
    provisioner: 'p',
  });
  const kubernetes = 'storageclass.kubernetes.io/is-default-class';
  const virt = 'storageclass.kubevirt.io/is-default-virt-class';
  const choose = (api: 'pvc' | 'storage', ...classes: V1StorageClass[]) =>
    defaultStorageClass(classes, api)?.metadata?.name;

  it('is the newest, then the first by name', () => {
    assert.equal(choose('storage', made('old', 2024, kubernetes), made('new', 2025, kubernetes)), 'new');
    assert.equal(choose('storage', made('new', 2025, virt), made('old', 2024, virt)), 'new');
    assert.equal(
      choose('pvc', made('b', 2024, kubernetes), made('a', 2024, kubernetes), made('z', 2026)),
      'a',
    );
    // a language's order would pass over the hyphen
    assert.equal(choose('pvc', made('ab', 2024, kubernetes), made('a-c', 2024, kubernetes)), 'a-c');
  });

  it("prefers KubeVirt's for storage only, however old it is", () => {
    const classes = [made('virt', 2024, virt), made('plain', 2025, kubernetes)];
    assert.equal(choose('storage', ...classes), 'virt');
    assert.equal(choose('pvc', ...classes), 'plain');
    assert.equal(choose('pvc', made('virt', 2024, virt)), undefined);
  });

  it('is none of those that say "false" or anything else', () => {
    const marked = (value: string): V1StorageClass => ({
      metadata: { name: 'a', annotations: { [virt]: value, [kubernetes]: value } },
      provisioner: 'p',
    });
    assert.equal(choose('storage', marked('false'), marked('yes'), marked('')), undefined);
  });
});
