import assert from 'node:assert/strict';
import { useStack } from '../support/stack.js';
import { refusal, type Manifest } from './requests.js';

/** As much of a CustomResourceDefinition as clients see. */
interface Definition {
  readonly spec: {
    readonly scope: string;
    readonly names: { readonly shortNames?: readonly string[]; readonly categories?: readonly string[] };
    readonly conversion: { readonly strategy: string };
    readonly versions: readonly {
      readonly name: string;
      readonly served: boolean;
      readonly storage: boolean;
      readonly schema: unknown;
      readonly subresources?: { readonly status?: object };
      readonly additionalPrinterColumns?: readonly { readonly name: string }[];
    }[];
  };
  readonly status: { readonly conditions: readonly { readonly type: string; readonly status: string }[] };
}

/** What KubeVirt, virtctl and kubectl rely on (`reference/clients.md` §5). */
const DEFINITIONS: Readonly<
  Record<string, readonly [scope: string, short: string, category: string, status: boolean, columns: string]>
> = {
  'datavolumes.cdi.kubevirt.io': ['Namespaced', 'dv,dvs', 'all', true, 'Phase,Progress,Restarts,Age'],
  'datasources.cdi.kubevirt.io': ['Namespaced', 'das', 'all', false, ''],
  'cdis.cdi.kubevirt.io': ['Cluster', 'cdi,cdis', '', true, 'Age,Phase'],
  'cdiconfigs.cdi.kubevirt.io': ['Cluster', '', '', false, ''],
  'storageprofiles.cdi.kubevirt.io': ['Cluster', '', '', true, ''],
  'hostpathprovisioners.hostpathprovisioner.kubevirt.io': ['Cluster', '', '', true, ''],
};

const POOL = { path: '/var/hpvolumes' };
const SETS = [{ accessModes: ['ReadWriteOnce'], volumeMode: 'Filesystem' }];
const CLAIM = { namespace: 'a', name: 'b' };

/** Kind, spec, and what is said against it; undefined where it is accepted. */
const OBJECTS: readonly (readonly [title: string, kind: string, spec: unknown, says?: RegExp])[] = [
  ...[true, false, 'true', 'false'].map(
    (useNamingPrefix) =>
      [
        `useNamingPrefix ${JSON.stringify(useNamingPrefix)}`,
        'HostPathProvisioner',
        { pathConfig: { ...POOL, useNamingPrefix } },
      ] as const,
  ),
  [
    'useNamingPrefix "yes"',
    'HostPathProvisioner',
    { pathConfig: { ...POOL, useNamingPrefix: 'yes' } },
    /Unsupported value: "yes"/,
  ],
  [
    'useNamingPrefix 1',
    'HostPathProvisioner',
    { pathConfig: { ...POOL, useNamingPrefix: 1 } },
    /Unsupported value: 1/,
  ],
  ['no path', 'HostPathProvisioner', { pathConfig: {} }, /pathconfig path must be set/],
  ['an empty path', 'HostPathProvisioner', { pathConfig: { path: '' } }, /pathconfig path must be set/],
  [
    'a path of 256 characters',
    'HostPathProvisioner',
    { pathConfig: { path: `/${'p'.repeat(255)}` } },
    /Too long/,
  ],
  ['no pool at all', 'HostPathProvisioner', {}, /either pathConfig or storage pools must be set/],
  [
    'a path and pools',
    'HostPathProvisioner',
    { pathConfig: POOL, storagePools: [{ name: 'a', path: '/a' }] },
    /pathConfig and storage pools cannot be both set/,
  ],
  [
    'two pools of one name',
    'HostPathProvisioner',
    {
      storagePools: [
        { name: 'a', path: '/a' },
        { name: 'a', path: '/b' },
      ],
    },
    /storage pool names must be unique/,
  ],
  [
    'two pools of one path',
    'HostPathProvisioner',
    {
      storagePools: [
        { name: 'a', path: '/a' },
        { name: 'b', path: '/a' },
      ],
    },
    /storage pool paths must be unique/,
  ],
  [
    'two pools',
    'HostPathProvisioner',
    {
      storagePools: [
        { name: 'a', path: '/a' },
        { name: 'b', path: '/b' },
      ],
    },
  ],
  [
    'overhead by class',
    'CDIConfig',
    { filesystemOverhead: { global: '0.055', storageClass: { a: '0', b: '1' } } },
  ],
  ['overhead 1.5', 'CDIConfig', { filesystemOverhead: { global: '1.5' } }, /should match/],
  ['overhead 0.0555', 'CDIConfig', { filesystemOverhead: { storageClass: { a: '0.0555' } } }, /should match/],
  [
    'configuration in the CDI',
    'CDI',
    { config: { scratchSpaceStorageClass: 'a' }, cloneStrategyOverride: 'copy' },
  ],
  ['an unknown clone strategy', 'CDI', { cloneStrategyOverride: 'magic' }, /Unsupported value: "magic"/],
  ['an empty profile', 'StorageProfile', {}],
  ['a profile with sets', 'StorageProfile', { claimPropertySets: SETS }],
  [
    'nine sets',
    'StorageProfile',
    { claimPropertySets: Array.from({ length: 9 }, () => SETS[0]) },
    /Too many: 9/,
  ],
  [
    'a set without volume mode',
    'StorageProfile',
    { claimPropertySets: [{ accessModes: [] }] },
    /volumeMode: Required value/,
  ],
  [
    'an unknown volume mode',
    'StorageProfile',
    { claimPropertySets: [{ ...SETS[0], volumeMode: 'Tape' }] },
    /"Tape"/,
  ],
  [
    'an unknown access mode',
    'StorageProfile',
    { claimPropertySets: [{ ...SETS[0], accessModes: ['X'] }] },
    /Illegal AccessMode/,
  ],
  ['a claim', 'DataSource', { source: { pvc: CLAIM } }],
  ['a snapshot', 'DataSource', { source: { snapshot: CLAIM } }],
  ['another DataSource', 'DataSource', { source: { dataSource: CLAIM } }],
  ['nothing yet', 'DataSource', { source: {} }],
  [
    'a claim and a snapshot',
    'DataSource',
    { source: { pvc: CLAIM, snapshot: CLAIM } },
    /Multiple Data volume sources/,
  ],
];

describe('CRDs', function () {
  this.timeout(20_000);
  const stack = useStack();

  Object.entries(DEFINITIONS).forEach(([name, [scope, short, category, status, columns]]) => {
    it(`${name} is served in two versions of one schema, as clients know it`, async () => {
      const { spec, status: state } = JSON.parse(
        await stack.kubectl(['get', 'crd', name, '-o', 'json']),
      ) as Definition;
      const [beta, alpha] = spec.versions;
      assert.deepEqual(
        spec.versions.map((version) => [version.name, version.served, version.storage]),
        [
          ['v1beta1', true, true],
          ['v1alpha1', true, false],
        ],
      );
      assert.deepEqual(beta?.schema, alpha?.schema);
      const { shortNames = [], categories = [] } = spec.names;
      assert.deepEqual(
        [spec.scope, shortNames.join(), categories.join(), spec.conversion.strategy],
        [scope, short, category, 'None'],
      );
      for (const version of spec.versions) {
        assert.equal(version.subresources?.status !== undefined, status);
        // kubectl prints Age by itself where a definition names no column.
        const named = (version.additionalPrinterColumns ?? []).map((column) => column.name).join();
        assert.equal(named === 'Age' ? '' : named, columns);
      }
      assert.ok(
        !state.conditions.some(({ type, status: on }) => type === 'NonStructuralSchema' && on === 'True'),
      );
    });
  });

  OBJECTS.forEach(([title, kind, spec, says]) => {
    ['v1beta1', 'v1alpha1'].forEach((version) => {
      it(`${kind} ${version} with ${title} is ${says ? 'refused' : 'accepted'}`, async () => {
        const message = await refusal(stack.kubeConfig, object(kind, version, spec));
        if (says) assert.match(message ?? 'accepted', says);
        else assert.equal(message, undefined);
      });
    });
  });

  it('the configuration that KubeVirt reads is there', async () => {
    const read = async (path: string): Promise<string> =>
      await stack.kubectl(['get', 'cdiconfig', 'config', '-o', `jsonpath={${path}}`]);
    assert.equal(await read('.status.filesystemOverhead.global'), '0.06');
    assert.equal(await read('.spec.featureGates'), '["HonorWaitForFirstConsumer"]');
  });
});

function object(kind: string, version: string, spec: unknown): Manifest {
  const group = kind === 'HostPathProvisioner' ? 'hostpathprovisioner.kubevirt.io' : 'cdi.kubevirt.io';
  const metadata = kind === 'DataSource' ? { name: 'tried', namespace: 'default' } : { name: 'tried' };
  return { apiVersion: `${group}/${version}`, kind, metadata, spec };
}
