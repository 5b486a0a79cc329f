import assert from 'node:assert/strict';
import {
  resolveDataSource,
  type Chain,
  type DataSourceName,
} from '../../activities/kubernetes/data-source-chain.js';
import type { DataSource, DataSourceSource } from '../../activities/kubernetes/objects.js';

/** DataSources by `namespace/name`. */
type World = Readonly<Record<string, DataSourceSource>>;

const DISK = { pvc: { namespace: 'images', name: 'disk' } };

/** A row: what it shows, the DataSources that there are, and what `a/first` leads to. */
const ROWS: readonly (readonly [what: string, world: World, expected: Partial<Chain>])[] = [
  ['a claim', { 'a/first': DISK }, { source: { kind: 'pvc', namespace: 'images', name: 'disk' } }],
  [
    'a claim whose namespace is left empty',
    { 'a/first': { pvc: { namespace: '', name: 'disk' } } },
    { source: { kind: 'pvc', namespace: 'a', name: 'disk' } },
  ],
  [
    'a snapshot',
    { 'a/first': { snapshot: { namespace: 'images', name: 's' } } },
    { source: { kind: 'snapshot', namespace: 'images', name: 's' } },
  ],
  [
    'another DataSource, and through it a claim',
    { 'a/first': ref('a', 'second'), 'a/second': DISK },
    { source: { kind: 'pvc', namespace: 'images', name: 'disk' }, through: names('a/first', 'a/second') },
  ],
  [
    'another DataSource whose namespace is left empty',
    { 'a/first': ref('', 'second'), 'a/second': DISK },
    { source: { kind: 'pvc', namespace: 'images', name: 'disk' } },
  ],
  ['nothing, since it does not exist', {}, broken('NotFound', 'DataSource a/first not found')],
  ['nothing yet', { 'a/first': {} }, broken('NoSource', 'No source PVC set in DataSource a/first')],
  [
    'one that does not exist',
    { 'a/first': ref('a', 'gone') },
    broken('NotFound', 'DataSource a/gone not found'),
  ],
  [
    'one that names nothing',
    { 'a/first': ref('a', 'second'), 'a/second': {} },
    broken('NoSource', 'No source PVC set in DataSource a/second'),
  ],
  [
    'itself',
    { 'a/first': ref('a', 'first') },
    broken('SelfReference', 'DataSource cannot self-reference: a/first'),
  ],
  [
    'itself, by way of another one',
    { 'a/first': ref('a', 'second'), 'a/second': ref('a', 'first') },
    broken(
      'MaxReferenceDepthReached',
      'DataSource reference chain exceeds maximum depth of 1: a/first, a/second, a/first',
    ),
  ],
  [
    'a chain of three',
    { 'a/first': ref('a', 'second'), 'a/second': ref('a', 'third'), 'a/third': DISK },
    broken(
      'MaxReferenceDepthReached',
      'DataSource reference chain exceeds maximum depth of 1: a/first, a/second, a/third',
    ),
  ],
  [
    'one of another namespace, whether or not it is there',
    { 'a/first': ref('b', 'second'), 'b/second': DISK },
    broken(
      'CrossNamespaceReference',
      'DataSource cannot reference a DataSource in another namespace: a/first references b/second',
    ),
  ],
];

describe('a DataSource leads to', () => {
  ROWS.forEach(([what, world, expected]) => {
    it(what, async () => {
      const chain = await resolveDataSource({ namespace: 'a', name: 'first' }, find(world));
      for (const [key, value] of Object.entries(expected))
        assert.deepEqual(chain[key as keyof Chain], value, key);
      assert.equal(chain.source === undefined, expected.source === undefined);
    });
  });

  it('what its specification says, whatever its status does', async () => {
    const forged = { pvc: { namespace: 'victim', name: 'disk' } };
    const chain = await resolveDataSource({ namespace: 'a', name: 'first' }, async (name) => ({
      ...dataSource(name, DISK),
      status: { source: forged },
    }));
    assert.deepEqual(chain.source, { kind: 'pvc', namespace: 'images', name: 'disk' });
  });
});

function find(world: World) {
  return async (name: DataSourceName): Promise<DataSource | undefined> => {
    const source = world[`${name.namespace}/${name.name}`];
    return source && dataSource(name, source);
  };
}

function dataSource({ namespace, name }: DataSourceName, source: DataSourceSource): DataSource {
  return { metadata: { namespace, name, uid: `uid-of-${name}` }, spec: { source } };
}

function ref(namespace: string, name: string): DataSourceSource {
  return { dataSource: { namespace, name } };
}

function names(...keys: string[]): readonly DataSourceName[] {
  return keys.map((key) => {
    const [namespace = '', name = ''] = key.split('/');
    return { namespace, name };
  });
}

function broken(reason: string, message: string): Partial<Chain> {
  return { reason, message } as Partial<Chain>;
}
