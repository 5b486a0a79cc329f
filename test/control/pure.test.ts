import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import type { DataVolume } from '../../activities/kubernetes/objects.js';
import type { TransferProgress } from '../../activities/types.js';
import { Client } from '@temporalio/client';
import { claimFingerprint, fingerprint } from '../../workers/control/fingerprints.js';
import { isToAdopt, newsOfClaim } from '../../workers/control/finished-claims.js';
import { backOff, createKeyQueue } from '../../workers/control/key-queue.js';
import { pickLifecycle, startOptions } from '../../workers/control/lifecycles.js';
import type { ServedDataVolume } from '../../workers/control/data-volumes.js';
import {
  dueLooks,
  formatProgress,
  nextMessage,
  nextProgress,
  startProgress,
  takeLooks,
} from '../../workers/control/progress.js';
import { createRuns } from '../../workers/control/runs.js';
import { failedLately } from '../../workers/control/runs.js';
import { isLost } from '../../workers/control/claims.js';
import { isFree, loserOf } from '../../workers/control/volumes.js';

const logger = { warn: () => undefined };
const spec = (fields: object): Pick<DataVolume, 'spec'> => ({ spec: fields });

describe('pickLifecycle', () => {
  for (const source of ['http', 's3', 'gcs', 'registry', 'imageio', 'vddk'] as const) {
    it(`imports ${source}, or lets the import say that it cannot`, () => {
      assert.deepEqual(pickLifecycle(spec({ source: { [source]: {} } })), {
        workflowType: 'importDataVolume',
        source,
      });
    });
  }

  it('makes a blank disk by a lifecycle of its own', () => {
    assert.deepEqual(pickLifecycle(spec({ source: { blank: {} } })), {
      workflowType: 'blankDataVolume',
      source: 'blank',
    });
  });

  it('receives an upload by a lifecycle of its own', () => {
    assert.deepEqual(pickLifecycle(spec({ source: { upload: {} } })), {
      workflowType: 'uploadDataVolume',
      source: 'upload',
    });
  });

  for (const [source, given] of [
    ['pvc', { source: { pvc: { namespace: 'a', name: 'b' } } }],
    ['snapshot', { source: { snapshot: { namespace: 'a', name: 'b' } } }],
    ['sourceRef', { sourceRef: { kind: 'DataSource', name: 'x' } }],
  ] as const) {
    it(`clones by a lifecycle of its own: ${source}`, () => {
      assert.deepEqual(pickLifecycle(spec(given)), { workflowType: 'cloneDataVolume', source });
    });
  }

  it('leaves population from outside alone', () => {
    assert.equal(pickLifecycle(spec({ storage: { dataSourceRef: {} } })).workflowType, undefined);
  });
});

describe('looks at progress', () => {
  const served = (count: number, name: string, status: object = {}) =>
    Array.from({ length: count }, (_, index) => {
      const uid = `${name}-${index}`;
      return { dataVolume: { metadata: { uid }, status }, workflowId: uid } as unknown as ServedDataVolume;
    });
  const MOVING = { phase: 'CloneInProgress', progress: '10.00%' };
  const WAITING = { phase: 'UploadReady', progress: 'N/A' };
  const ids = (looks: readonly ServedDataVolume[]) => looks.map(({ workflowId }) => workflowId);

  it('go to those that move in every second, however many wait', async () => {
    const all = [...served(1_000, 'waits', WAITING), ...served(3, 'moves', MOVING)];
    const looks: string[] = [];
    const running = { running: true, names: {} };
    const progress = startProgress({
      watch: { served: () => all, get: () => undefined, doubt: () => undefined },
      runs: {
        describe: async (workflowId) => {
          looks.push(workflowId);
          return { ...running, workflowId, runId: '', status: 'RUNNING', cancelRequested: false };
        },
      },
      writes: { progress: async () => false },
      logger: { debug: () => undefined },
    });
    try {
      for (let left = 100; left > 0 && looks.length < 400; left--) await pause(50);
    } finally {
      await progress.stop();
    }
    for (const second of [looks.slice(0, 200), looks.slice(200, 400)])
      assert.equal(second.filter((workflowId) => workflowId.startsWith('moves')).length, 3);
    assert.equal(new Set(looks.slice(0, 400)).size, 397, 'two seconds see other ones that wait');
  });

  it('leave those that wait a share where more move than can be looked at', () => {
    const due = dueLooks([...served(300, 'moves', MOVING), ...served(50, 'waits', WAITING)], new Map(), 0);
    assert.equal(due.waiting.length, 0, 'looked at less than 5 s ago');
    const later = dueLooks(
      [...served(300, 'moves', MOVING), ...served(50, 'waits', WAITING)],
      new Map(),
      5_000,
    );
    const looks = ids(takeLooks(later));
    assert.deepEqual(
      [looks.length, looks.filter((id) => id.startsWith('waits')).length, later.moving.length],
      [200, 20, 120],
    );
  });

  it('come round to all that wait, and at once to those that have no phase', () => {
    const all = [...served(3, 'waits', WAITING), ...served(1, 'new')];
    const lookedAt = new Map([
      ['waits-0', 3_000],
      ['waits-1', 1_000],
      ['waits-2', 2_000],
      ['new-0', 6_000],
    ]);
    assert.deepEqual(ids(dueLooks(all, lookedAt, 7_000).waiting), ['waits-1', 'waits-2', 'new-0']);
  });
});

describe('startOptions', () => {
  it('hold no credential and name the DataVolume', () => {
    const dataVolume = {
      metadata: { namespace: 'team-a', name: 'vm1', uid: 'u1' },
      spec: { source: { http: { url: 'https://user:secret@host/disk.img?token=secret' } } },
    } as unknown as DataVolume;
    const options = startOptions(dataVolume, 'http');
    assert.equal(options.workflowId, 'datavolume/team-a/vm1/u1');
    assert.deepEqual(options.args, [{ namespace: 'team-a', name: 'vm1', uid: 'u1' }]);
    assert.equal(options.staticSummary, 'Import team-a/vm1 from https://host/disk.img');
    assert.ok(!JSON.stringify(options).includes('secret'));
  });

  it('give whoever comes second the same run, but never one that may answer another retry', () => {
    const dataVolume = {
      metadata: { namespace: 'team-a', name: 'data', uid: 'u1' },
      spec: { source: { blank: {} } },
    } as unknown as DataVolume;
    assert.equal(startOptions(dataVolume, 'blank').workflowIdConflictPolicy, 'USE_EXISTING');
    assert.equal(startOptions(dataVolume, 'blank', 'now').workflowIdConflictPolicy, 'FAIL');
  });

  it('say what is made where nothing is imported', () => {
    const dataVolume = {
      metadata: { namespace: 'team-a', name: 'data', uid: 'u1' },
      spec: { source: { blank: {} } },
    } as unknown as DataVolume;
    assert.equal(startOptions(dataVolume, 'blank').staticSummary, 'Create blank disk team-a/data (blank)');
  });
});

describe('progress of a DataVolume', () => {
  const transfer = (fraction: number | undefined, attempt = 1): TransferProgress => ({
    phase: 'transferring',
    bytesRead: 1,
    bytesWritten: 1,
    rate: 1,
    attempt,
    barren: 0,
    ...(fraction === undefined ? {} : { fraction }),
  });
  const moving = { phase: 'ImportInProgress' } as const;

  it('has two decimals, is rounded down and never says 100 %', () => {
    const cases: [number | undefined, string][] = [
      [0, '0.00%'],
      [0.453, '45.30%'],
      [0.45309, '45.30%'],
      [0.99999, '99.99%'],
      [1, '99.99%'],
      [1.5, '99.99%'],
      [-1, '0.00%'],
      [undefined, 'N/A'],
      [Number.NaN, 'N/A'],
    ];
    for (const [fraction, text] of cases) assert.equal(formatProgress(fraction), text);
  });

  it('does not go back within an attempt', () => {
    const status = { ...moving, progress: '45.30%', restartCount: 0 };
    assert.equal(nextProgress(status, transfer(0.4)), undefined);
    assert.equal(nextProgress(status, transfer(undefined)), undefined);
    assert.deepEqual(nextProgress(status, transfer(0.5)), { progress: '50.00%', restartCount: 0 });
    assert.equal(nextProgress({ ...status, progress: '9.00%' }, transfer(0.1))?.progress, '10.00%');
  });

  it('may go back with a new attempt, which counts as a restart', () => {
    const status = { ...moving, progress: '45.30%', restartCount: 0 };
    assert.deepEqual(nextProgress(status, transfer(0.1, 3)), { progress: '10.00%', restartCount: 2 });
    // Until the new attempt has a figure of its own, the old one stays.
    assert.equal(nextProgress(status, transfer(undefined, 2)), undefined);
    assert.deepEqual(nextProgress(moving, transfer(undefined, 2)), { progress: 'N/A', restartCount: 1 });
    // A heartbeat of the attempt before is no news.
    assert.equal(nextProgress({ ...status, restartCount: 1 }, transfer(0.3, 1)), undefined);
  });

  it('is written in a transfer phase only', () => {
    for (const phase of ['Succeeded', 'Failed', 'Pending', 'ImportScheduled'] as const) {
      assert.equal(nextProgress({ phase }, transfer(0.5)), undefined);
    }
    assert.equal(nextProgress(moving, undefined), undefined);
  });
});

describe('message of a DataVolume whose run tries again', () => {
  const at = new Date('2030-01-01T00:00:09Z');
  const times = { lastTransitionTime: '2030-01-01T00:00:01Z', lastHeartbeatTime: '2030-01-01T00:00:01Z' };
  const ready = { type: 'Ready', status: 'False', reason: 'Pending', message: '', ...times };
  const saying = (message: string) => ({
    conditions: [{ type: 'Running', status: 'False', reason: 'Pending', message, ...times }, ready],
  });
  const failed = {
    activity: 'inspectSource',
    attempt: 2,
    type: 'SourceUnavailable',
    message: 'no answer',
  } as const;
  const told = 'no answer (attempt 2 of 10 failed, trying again)';

  it('tells the last failure once, then that of the next attempt, then nothing', () => {
    const first = nextMessage(saying(''), failed, at);
    assert.deepEqual(first?.conditions, [
      { ...saying(told).conditions[0], lastHeartbeatTime: '2030-01-01T00:00:09Z' },
      ready,
    ]);
    assert.equal(nextMessage(first, failed, at), undefined);
    const next = nextMessage(first, { ...failed, attempt: 3 }, at);
    assert.match(next?.conditions[0]?.message ?? '', /attempt 3 of 10/);
    assert.equal(nextMessage(next, undefined, at)?.conditions[0]?.message, '');
  });

  it('leaves alone what the workflow says, and what nobody has said yet', () => {
    assert.equal(nextMessage(saying('waiting for Secret a/b'), failed, at), undefined);
    assert.equal(nextMessage(saying('waiting for Secret a/b'), undefined, at), undefined);
    assert.equal(nextMessage(saying(''), undefined, at), undefined);
    assert.equal(nextMessage({ phase: 'Pending' }, failed, at), undefined);
    assert.equal(nextMessage(undefined, failed, at), undefined);
  });
});

describe('what a finished DataVolume says of its claim', () => {
  const RESTORING = { 'cdi.kubevirt.io/storage.prePopulated': 'disk' };
  const populatedFor = (name: string) => ({
    annotations: { 'cdi.kubevirt.io/storage.populatedFor': name },
  });
  const ownedBy = (uid: string) => ({
    ownerReferences: [{ apiVersion: 'v1', kind: 'DataVolume', name: 'disk', uid, controller: true }],
  });
  const RESTORED = populatedFor('disk');
  const OWN = ownedBy('u');
  const finished = (phase: string, bound: string, annotations = {}, running = 'Completed'): DataVolume => {
    const [status, reason] = bound.split(' ');
    const conditions = [
      { type: 'Bound', status, reason },
      { type: 'Running', status: 'False', reason: running },
    ];
    return {
      metadata: { name: 'disk', uid: 'u', annotations },
      status: { phase, conditions },
    } as unknown as DataVolume;
  };
  const AWAY = 'Succeeded: Bound False NotFound, Ready False NotFound';
  const BACK = 'Succeeded: Bound True Bound, Ready True ';
  const SOON = 'Succeeded: Bound False Pending, Ready False Pending';
  const UNPUBLISHED = { 'dvflow.io/unpublished': 'u' };
  const rows: [string, string, string, object?, object?, string?][] = [
    ['Succeeded', 'True Bound', 'Bound', OWN],
    ['Succeeded', 'False Pending', 'Bound', OWN, {}, BACK],
    ['Succeeded', 'False Pending', 'Pending', OWN],
    ['Succeeded', 'True Bound', '', {}, {}, AWAY],
    ['Succeeded', 'False Pending', '', {}, {}, AWAY],
    ['Succeeded', 'False ClaimLost', '', {}, {}, AWAY],
    ['Succeeded', 'False NotFound', ''],
    ['Succeeded', 'True Bound', 'Lost', OWN, {}, 'Succeeded: Bound False ClaimLost, Ready False ClaimLost'],
    ['Succeeded', 'False ClaimLost', 'Lost', OWN],
    // somebody else's claim of that name
    ['Failed', 'False NotFound', 'Bound', RESTORED],
    ['Failed', 'False NotFound', '', {}, RESTORING],
    ['Failed', 'False NotFound', 'Bound', {}, RESTORING],
    ['Failed', 'False NotFound', 'Bound', OWN, RESTORING],
    ['Failed', 'False NotFound', 'Bound', { ...RESTORED, ...ownedBy('earlier') }, RESTORING],
    ['Failed', 'False NotFound', 'Bound', { ...RESTORED, labels: UNPUBLISHED }, RESTORING],
    ['Failed', 'False NotFound', 'Lost', RESTORED, RESTORING],
    // restored while a control worker of before took it for one without a run
    ['Failed', 'False NotFound', 'Bound', RESTORED, RESTORING, `${BACK}, Running False Completed`],
    ['Failed', 'False NotFound', 'Pending', RESTORED, RESTORING, `${SOON}, Running False Completed`],
    ['Succeeded', 'False NotFound', 'Bound'],
    ['Succeeded', 'False NotFound', 'Bound', populatedFor('other')],
    ['Succeeded', 'False NotFound', 'Bound', ownedBy('earlier')],
    ['Succeeded', 'False NotFound', 'Bound', { ...RESTORED, ...ownedBy('earlier') }],
    // restored in its place
    ['Succeeded', 'True Bound', '', {}, RESTORING, AWAY.replace('Succeeded', 'Pending')],
    ['Succeeded', 'False NotFound', '', {}, RESTORING, AWAY.replace('Succeeded', 'Pending')],
    ['Pending', 'False NotFound', '', {}, RESTORING],
    ['Pending', 'False NotFound', '', {}, {}, AWAY],
    ['Pending', 'False NotFound', 'Pending', RESTORED, RESTORING, SOON],
    ['Succeeded', 'True Bound', 'Pending', RESTORED, RESTORING, SOON],
    ['Succeeded', 'False Pending', 'Pending', RESTORED, RESTORING],
    ['Pending', 'False NotFound', 'Bound', RESTORED, RESTORING, BACK],
    ['Succeeded', 'False NotFound', 'Bound', RESTORED, {}, BACK],
    ['Succeeded', 'False NotFound', 'Bound', OWN, {}, BACK],
    ['Succeeded', 'False ClaimLost', 'Bound', RESTORED, {}, BACK],
    ['Succeeded', 'False NotFound', 'Bound', { ...RESTORED, deletionTimestamp: new Date() }],
    ['Succeeded', 'False NotFound', 'Bound', { ...RESTORED, labels: UNPUBLISHED }],
  ];
  for (const [phase, told, claim, metadata = {}, annotations = {}, expected] of rows) {
    const what = `${claim || 'gone'} ${Object.keys(metadata).join(', ')}`.trim();
    const restoring = annotations === RESTORING ? ', to be restored' : '';
    it(`${phase}, Bound ${told}, its claim ${what}${restoring}: ${expected ?? 'no news'}`, () => {
      const found = claim ? { metadata, status: { phase: claim } } : undefined;
      const news = newsOfClaim(finished(phase, told, annotations), found);
      const said = news?.conditions.map((one) => `${one.type} ${one.status} ${one.reason}`);
      assert.equal(news && `${news.phase}: ${said?.join(', ')}`, expected);
    });
  }

  it('adopts what was restored for it, once, and nothing else', () => {
    const status = { phase: 'Bound' };
    const disk = finished('Succeeded', 'True Bound');
    assert.ok(isToAdopt(disk, { metadata: RESTORED, status }));
    assert.ok(isToAdopt(finished('Pending', 'False NotFound', RESTORING), { metadata: RESTORED, status }));
    for (const metadata of [{}, OWN, { ...RESTORED, ...OWN }, { ...RESTORED, ...ownedBy('earlier') }])
      assert.ok(!isToAdopt(disk, { metadata, status }));
    assert.ok(!isToAdopt(disk, undefined));
    assert.ok(!isToAdopt(finished('Failed', 'False NotFound'), { metadata: RESTORED, status }));
    assert.ok(isToAdopt(finished('Failed', 'False NotFound', RESTORING), { metadata: RESTORED, status }));
  });

  it('leaves it to the run where one is under way', () => {
    const waiting = finished('Pending', 'False NotFound', RESTORING, 'PrePopulated');
    const claim = { metadata: RESTORED, status: { phase: 'Bound' } };
    assert.equal(newsOfClaim(waiting, claim), undefined);
    assert.ok(!isToAdopt(waiting, claim));
  });
});

describe('fingerprints', () => {
  const base = { metadata: { namespace: 'a', name: 'b', uid: 'c' }, spec: {} } as DataVolume;
  const annotated = (annotations: Record<string, string>): DataVolume => ({
    ...base,
    metadata: { ...base.metadata, annotations },
  });

  it('ignore what the lifecycle writes and see what others write', () => {
    assert.equal(fingerprint(annotated({ 'dvflow.io/retried': 'x' })), fingerprint(base));
    assert.equal(
      fingerprint(annotated({ 'cdi.kubevirt.io/storage.usePopulator': 'false' })),
      fingerprint(base),
    );
    assert.notEqual(fingerprint(annotated({ 'dvflow.io/deadline': '1h' })), fingerprint(base));
    assert.notEqual(fingerprint(annotated({ 'kubevirt.io/provisionOnNode': 'n' })), fingerprint(base));
    assert.equal(fingerprint(annotated({ a: '1', b: '2' })), fingerprint(annotated({ b: '2', a: '1' })));
  });

  it("see the scheduler's choice and the end of a claim", () => {
    const claim = { metadata: { uid: 'c', annotations: {} as Record<string, string> } };
    const chosen = { metadata: { uid: 'c', annotations: { 'volume.kubernetes.io/selected-node': 'n' } } };
    const podPhase = {
      metadata: { uid: 'c', annotations: { 'cdi.kubevirt.io/storage.pod.phase': 'Running' } },
    };
    const immediate = { 'cdi.kubevirt.io/storage.bind.immediate.requested': '' };
    assert.notEqual(claimFingerprint(claim), claimFingerprint(chosen));
    assert.notEqual(
      claimFingerprint(claim),
      claimFingerprint({ metadata: { uid: 'c', annotations: immediate } }),
    );
    assert.notEqual(claimFingerprint(claim), claimFingerprint(undefined));
    assert.equal(claimFingerprint(claim), claimFingerprint(podPhase));
    const restored = { 'cdi.kubevirt.io/storage.populatedFor': 'b' };
    assert.notEqual(
      claimFingerprint(claim),
      claimFingerprint({ metadata: { uid: 'c', annotations: restored } }),
    );
  });
});

describe('a volume that a claim could get', () => {
  const volume = (phase: string, claimRef?: object) => ({
    status: { phase },
    spec: { ...(claimRef ? { claimRef } : {}) },
  });
  for (const [what, found, free] of [
    ['is Available', volume('Available'), true],
    ['is kept for a claim', volume('Available', { namespace: 'a', name: 'vm1' }), true],
    [
      'is not reserved by dvflow',
      volume('Available', { namespace: 'dvflow-transfers', name: 'reserved-u' }),
      false,
    ],
    ['is not offered to a claim', volume('Available', { namespace: 'a', name: 'vm1', uid: 'u' }), false],
    ['is not Released', volume('Released', { namespace: 'a', name: 'vm1', uid: 'u' }), false],
    ['is there', undefined, false],
  ] as const) {
    it(what, () => assert.equal(isFree(found), free));
  }
});

describe('what is filled and is somebody else’s by now', () => {
  const marks = {
    labels: { 'dvflow.io/unpublished': 'dv-1' },
    annotations: { 'dvflow.io/data-volume': 'team-a/vm1' },
  };
  const held = { namespace: 'dvflow-transfers', name: 'reserved-dv-1' };
  const volume = (uid: string, claimRef: object | undefined, metadata: object = marks) =>
    ({ metadata: { name: 'pv1', uid, ...metadata }, spec: claimRef ? { claimRef } : {} }) as never;
  const before = volume('1', held);
  for (const [what, change, loser] of [
    ['deleted', { before }, 'team-a/vm1'],
    ['made anew', { before, after: volume('2', undefined, {}) }, 'team-a/vm1'],
    ['made anew with all its marks', { before, after: volume('2', held) }, 'team-a/vm1'],
    ['released', { before, after: volume('1', undefined) }, 'team-a/vm1'],
    ['given away', { before, after: volume('1', { namespace: 'b', name: 'c' }) }, 'team-a/vm1'],
    ['handed over', { before, after: volume('1', { namespace: 'team-a', name: 'vm1' }) }, undefined],
    ['published', { before, after: volume('1', held, {}) }, undefined],
    ['nobody’s before', { before: volume('1', undefined, {}) }, undefined],
    ['new', { after: before }, undefined],
  ] as const) {
    it(`tells ${loser ?? 'nobody'} of a volume that was ${what}`, () => {
      assert.equal(loserOf(change), loser);
    });
  }

  const claim = (phase: string, annotations: object) =>
    ({
      metadata: { namespace: 'team-a', name: 'vm1', uid: '1', labels: marks.labels, annotations },
      status: { phase },
    }) as never;
  const waits = { 'dvflow.io/reserved-volume': 'pv1' };
  for (const [what, after, lost] of [
    ['waits for its volume', claim('Pending', waits), false],
    ['is Bound although nobody has handed it over', claim('Bound', waits), true],
    ['is Bound by the hand-over', claim('Bound', { ...waits, 'dvflow.io/handed-over': 'now' }), false],
    ['is Bound to a volume that was made for it', claim('Bound', {}), false],
  ] as const) {
    it(`counts a claim that ${what} ${lost ? '' : 'not '}as lost`, () => {
      assert.equal(isLost({ before: claim('Pending', waits), after }), lost);
    });
  }
});

describe('failedLately', () => {
  const closedAt = new Date(Date.UTC(2030, 0, 1));
  const later = (minutes: number): number => closedAt.getTime() + minutes * 60_000;

  it('leaves a volume alone for an hour after its run failed', () => {
    assert.equal(failedLately({ status: 'FAILED', closedAt }, later(59)), true);
    assert.equal(failedLately({ status: 'FAILED', closedAt }, later(60)), false);
  });

  it('says nothing of runs that run, or ended otherwise', () => {
    assert.equal(failedLately({ status: 'RUNNING' }, later(1)), false);
    for (const status of ['COMPLETED', 'TERMINATED', 'CANCELLED', 'TIMED_OUT'])
      assert.equal(failedLately({ status, closedAt }, later(1)), false, status);
  });
});

describe('why a step of a run is tried again', () => {
  const [SCHEDULED, STARTED] = [1, 2];
  const rows: [
    activity: string,
    attempt: number,
    state: number,
    type: string,
    expected: number | undefined,
  ][] = [
    ['inspectSource', 2, STARTED, 'SourceUnavailable', 1],
    ['transferImage', 2, SCHEDULED, 'SourceUnavailable', 1],
    ['transferImage', 2, STARTED, 'SourceUnavailable', undefined],
    ['ensureClaim', 4, SCHEDULED, 'KubernetesUnavailable', undefined],
    ['ensureClaim', 5, SCHEDULED, 'KubernetesUnavailable', 4],
    ['ensureClaim', 9, STARTED, 'KubernetesUnavailable', 8],
    ['ensureClaim', 9, SCHEDULED, 'TypeError', undefined],
    ['publishVolume', 9, STARTED, 'KubernetesUnavailable', undefined],
  ];
  for (const [activity, attempt, state, type, expected] of rows) {
    const what = `${activity}, attempt ${attempt} ${state === STARTED ? 'under way' : 'to come'}, after ${type}`;
    it(`${what}: ${expected === undefined ? 'is not told' : `tells attempt ${expected}`}`, async () => {
      const lastFailure = { message: 'why', applicationFailureInfo: { type } };
      const raw = { pendingActivities: [{ activityType: { name: activity }, attempt, state, lastFailure }] };
      const client = new Client();
      const describe = (): Promise<object> =>
        Promise.resolve({
          raw,
          status: { name: 'RUNNING' },
          typedSearchAttributes: { get: () => undefined },
        });
      client.workflow.getHandle = () => ({ describe }) as never;
      const found = await createRuns(client).describe('w');
      assert.equal(found?.failed?.attempt, expected);
    });
  }
});

describe('explain', () => {
  it('tells an end without a final phase from one that came from outside', async () => {
    const runs = createRuns(new Client());
    const run = { workflowId: 'w', runId: 'r', running: false, cancelRequested: false, names: {} };
    assert.deepEqual(await runs.explain({ ...run, status: 'COMPLETED' }), {
      type: 'Terminated',
      message: 'workflow w ended without writing a final phase (COMPLETED)',
    });
    assert.deepEqual(await runs.explain({ ...run, status: 'TIMED_OUT' }), {
      type: 'Terminated',
      message: 'workflow w was ended from outside (TIMED_OUT)',
    });
  });
});

describe('key queue', () => {
  it('runs a key once however often it is added, and once more when it is added meanwhile', async () => {
    let runs = 0;
    let release = (): void => undefined;
    const queue = createKeyQueue(async () => {
      runs += 1;
      if (runs === 1) await new Promise<void>((resolve) => (release = resolve));
    }, logger);
    queue.add('a');
    for (let n = 0; n < 5; n += 1) queue.add('a');
    assert.equal(runs, 1);
    release();
    await pause(20);
    assert.equal(runs, 2);
    await queue.stop();
  });

  it('never runs one key twice at once, and at most eight keys', async () => {
    const running = new Set<string>();
    let most = 0;
    const queue = createKeyQueue(async (key) => {
      assert.ok(!running.has(key));
      running.add(key);
      most = Math.max(most, running.size);
      await pause(5);
      running.delete(key);
    }, logger);
    for (let n = 0; n < 100; n += 1) queue.add(`k${n % 20}`);
    await pause(100);
    assert.equal(most, 8);
    await queue.stop();
  });

  it('tries a key that failed again, until it is done', async () => {
    let runs = 0;
    const queue = createKeyQueue(async () => {
      runs += 1;
      if (runs < 3) throw new Error('not yet');
    }, logger);
    queue.add('a');
    for (let n = 0; n < 100 && runs < 3; n += 1) await pause(50);
    assert.equal(runs, 3);
    await queue.stop();
  });

  it('does nothing any more once it is stopped', async () => {
    let runs = 0;
    const queue = createKeyQueue(async () => {
      runs += 1;
      throw new Error('for ever');
    }, logger);
    queue.add('a');
    await queue.stop();
    queue.add('b');
    queue.addAfter('c', 1);
    await pause(700);
    assert.equal(runs, 1);
  });

  it('backs off up to a minute, with jitter', () => {
    assert.equal(
      backOff(1, () => 1),
      500,
    );
    assert.equal(
      backOff(1, () => 0),
      250,
    );
    assert.equal(
      backOff(4, () => 1),
      4000,
    );
    assert.equal(
      backOff(100, () => 1),
      60_000,
    );
  });
});
