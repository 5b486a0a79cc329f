import assert from 'node:assert/strict';
import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import type { Chain } from '../../activities/kubernetes/data-source-chain.js';
import {
  wantedDataSource,
  type DataSourceFacts,
  type VolumeSnapshot,
} from '../../activities/kubernetes/data-source-status.js';
import type { DataSource, DataVolume } from '../../activities/kubernetes/objects.js';

const THROUGH = [{ namespace: 'a', name: 'first' }];
const PVC: Chain = { source: { kind: 'pvc', namespace: 'images', name: 'disk' }, through: THROUGH };
const SNAPSHOT: Chain = { source: { kind: 'snapshot', namespace: 'images', name: 'snap' }, through: THROUGH };
const BROKEN: Chain = { reason: 'SelfReference', message: 'DataSource cannot self-reference: a/first' };

/** A row: the facts, reason and message of condition `Ready`, and whether it is. */
type Row = readonly [
  what: string,
  facts: Partial<DataSourceFacts>,
  reason: string,
  message: string,
  ready?: true,
];

const CONSUMED = 'DataSource is ready to be consumed';

const ROWS: readonly Row[] = [
  ['a claim without a DataVolume', { claim: claim() }, 'Ready', CONSUMED, true],
  ['a claim that its DataVolume has filled', filled('Succeeded'), 'Ready', CONSUMED, true],
  [
    'a claim that is being filled',
    filled('ImportInProgress'),
    'ImportInProgress',
    'DataVolume images/disk has phase ImportInProgress',
  ],
  [
    'a DataVolume that nobody has looked at',
    filled(''),
    'Pending',
    'DataVolume images/disk has phase Pending',
  ],
  ['a DataVolume that failed', filled('Failed'), 'Failed', 'DataVolume images/disk has phase Failed'],
  ['no claim', {}, 'NotFound', 'PVC images/disk not found'],
  [
    'a filled claim that was deleted, whose DataVolume is still there',
    { dataVolume: dataVolume('Succeeded') },
    'NotFound',
    'PVC images/disk not found',
  ],
  ['a broken reference', { chain: BROKEN, claim: claim() }, 'SelfReference', BROKEN.message],
  [
    'a snapshot that is ready',
    { chain: SNAPSHOT, snapshot: { metadata: {}, status: { readyToUse: true } } },
    'Ready',
    CONSUMED,
    true,
  ],
  [
    'a snapshot that is not ready',
    { chain: SNAPSHOT, snapshot: { metadata: {} } satisfies VolumeSnapshot },
    'SnapshotNotReady',
    'Snapshot images/snap is not ready',
  ],
  ['no snapshot', { chain: SNAPSHOT, claim: claim() }, 'NotFound', 'Snapshot images/snap not found'],
];

describe('a DataSource says of', () => {
  ROWS.forEach(([what, given, reason, message, ready]) => {
    it(`${what}: ${reason}`, () => {
      const { status } = wantedDataSource(facts(given));
      const [condition] = status?.conditions ?? [];
      assert.deepEqual(
        [condition?.type, condition?.status, condition?.reason, condition?.message],
        ['Ready', ready ? 'True' : 'False', reason, message],
      );
      const { source } = given.chain ?? PVC;
      const named = source && { [source.kind]: { namespace: source.namespace, name: source.name } };
      assert.deepEqual(status?.source, ready ? named : {});
    });
  });

  it('the same facts the same, and moves times only with what it says', () => {
    const first = wantedDataSource(facts({ claim: claim() }));
    const later = new Date(Date.parse('2026-01-02T03:04:05Z'));
    assert.deepEqual(wantedDataSource(facts({ dataSource: first, claim: claim(), now: later })), first);
    const [gone] = wantedDataSource(facts({ dataSource: first, now: later })).status?.conditions ?? [];
    assert.equal(gone?.lastTransitionTime, '2026-01-02T03:04:05Z');
  });

  it('a disk what its labels say, and keeps its own', () => {
    const disk = claim({
      'instancetype.kubevirt.io/default-preference': 'fedora',
      'kubevirt.io/os': 'linux',
      app: 'containerized-data-importer',
      'notkubevirt.io/x': 'y',
    });
    const filler = dataVolume('Succeeded', { 'instancetype.kubevirt.io/default-preference': 'older' });
    const own = dataSource({ team: 'a', 'kubevirt.io/os': 'stale' });
    const { metadata } = wantedDataSource(facts({ dataSource: own, claim: disk, dataVolume: filler }));
    assert.deepEqual(metadata.labels, {
      team: 'a',
      'kubevirt.io/os': 'linux',
      'instancetype.kubevirt.io/default-preference': 'fedora',
    });
    const unready = wantedDataSource(
      facts({ dataSource: own, claim: disk, dataVolume: dataVolume('Failed') }),
    );
    assert.deepEqual(unready.metadata.labels, own.metadata.labels);
  });
});

function facts(given: Partial<DataSourceFacts>): DataSourceFacts {
  return { dataSource: dataSource(), chain: PVC, now: new Date('2026-01-01T00:00:00Z'), ...given };
}

function dataSource(labels?: Record<string, string>): DataSource {
  return {
    metadata: { namespace: 'a', name: 'first', uid: 'u', ...(labels ? { labels } : {}) },
    spec: { source: {} },
  };
}

function claim(labels: Record<string, string> = {}): V1PersistentVolumeClaim {
  return { metadata: { namespace: 'images', name: 'disk', labels } };
}

function dataVolume(phase: NonNullable<DataVolume['status']>['phase'], labels = {}): DataVolume {
  return {
    apiVersion: 'cdi.kubevirt.io/v1beta1',
    kind: 'DataVolume',
    metadata: { namespace: 'images', name: 'disk', uid: 'v', labels },
    spec: {},
    status: { ...(phase === undefined ? {} : { phase }) },
  };
}

function filled(phase: NonNullable<DataVolume['status']>['phase']): Partial<DataSourceFacts> {
  return { claim: claim(), dataVolume: dataVolume(phase) };
}
