import assert from 'node:assert/strict';
import type { Client } from '@temporalio/client';
import { checkDataVolumes, checkReleased } from '../../../cli/doctor/checks/data-volumes.js';
import type { DataVolumeObject } from '../../../cli/doctor/objects.js';
import { readRuns } from '../../../cli/doctor/runs.js';
import { NOW, ago, levels } from './findings.js';

describe('doctor: DataVolumes', () => {
  function dataVolume(
    name: string,
    minutes: number,
    status: DataVolumeObject['status'] = {},
  ): DataVolumeObject {
    return {
      metadata: { name, namespace: 'a', uid: name, creationTimestamp: ago(minutes) },
      spec: { source: { http: { url: 'http://a/b' } } },
      status,
    };
  }
  const waiting = (minutes: number, phase = 'ImportScheduled', reason = 'InsufficientCapacity') => ({
    phase,
    conditions: [
      {
        type: 'Running',
        status: 'False',
        reason,
        message: 'room',
        lastTransitionTime: ago(minutes),
      },
    ],
  });
  const check = (all: readonly DataVolumeObject[], runs: Record<string, 'running' | 'closed' | 'unknown'>) =>
    checkDataVolumes({ value: all }, { value: new Map(Object.entries(runs)) }, NOW);

  it('are counted', () => {
    const all = [dataVolume('x', 9, { phase: 'Succeeded' }), dataVolume('y', 9, { phase: 'Failed' })];
    assert.deepEqual(
      check(all, {}).map(({ found }) => found),
      ['2 in all, 0 under way, 1 Failed'],
    );
  });

  it('are a problem without a run, once a control worker has had the time to start one', () => {
    const all = [
      dataVolume('new', 0.5),
      dataVolume('old', 5),
      dataVolume('ended', 5, { phase: 'ImportInProgress' }),
    ];
    const findings = check(all, { new: 'unknown', old: 'unknown', ended: 'closed' });
    assert.deepEqual(levels(findings), ['ok under way', 'problem a/old', 'problem a/ended']);
    assert.match(findings[2]?.means ?? '', /Terminated/);
  });

  it('need no run while their claim is restored by somebody', () => {
    const restoring = dataVolume('restoring', 60, waiting(30, 'Pending', 'Completed'));
    assert.deepEqual(levels(check([restoring], { restoring: 'closed' })), ['ok under way']);
  });

  it('of a source that this release does not serve are a warning', () => {
    const storage = { dataSourceRef: { apiGroup: 'a', kind: 'Populator', name: 'p' } };
    const populated = { ...dataVolume('populated', 5), spec: { storage } };
    const [, finding] = check([populated], { populated: 'unknown' });
    assert.deepEqual(
      [finding?.level, /populated from outside .* is not served/.test(finding?.found ?? '')],
      ['warning', true],
    );
  });

  it('are told when they wait for long, but for a first consumer', () => {
    const all = [
      dataVolume('long', 60, waiting(30)),
      dataVolume('short', 60, waiting(3)),
      dataVolume('consumer', 60, waiting(30, 'WaitForFirstConsumer')),
    ];
    const findings = check(all, { long: 'running', short: 'running', consumer: 'running' });
    assert.deepEqual(levels(findings), ['ok under way', 'warning a/long']);
    assert.match(findings[1]?.found ?? '', /waits for 30m: InsufficientCapacity: room/);
  });

  it('are told what ends their wait: their deadline, or nothing', () => {
    const own = dataVolume('own', 60, waiting(30));
    const annotated = { ...own, metadata: { ...own.metadata, annotations: { 'dvflow.io/deadline': '3d' } } };
    const endless = dataVolume('endless', 60, waiting(30, 'Pending', 'CloneWithoutSource'));
    for (const [one, means] of [
      [own, /^it ends as DeadlineExceeded 24 h after its last progress/],
      [annotated, /^it ends as DeadlineExceeded 3d after its last progress/],
      [endless, /^it waits until that is there, however long$/],
      [
        { ...endless, status: { ...endless.status, phase: 'CloneScheduled' } },
        /^it ends as DeadlineExceeded 24 h/,
      ],
    ] as const)
      assert.match(check([one], { [one.metadata.uid]: 'running' })[1]?.means ?? '', means);
  });

  it('are asked for by the run that serves them: after a retry the one of the watch, whoever made them', async () => {
    const asked: string[] = [];
    const getHandle = (workflowId: string) => {
      asked.push(workflowId);
      return { describe: async () => ({ status: { name: 'RUNNING' } }) };
    };
    const made = { 'dvflow.io/workflow-id': 'import/a/x' };
    const annotated = (name: string, annotations: Record<string, string>): DataVolumeObject => {
      const one = dataVolume(name, 1);
      return { ...one, metadata: { ...one.metadata, annotations } };
    };
    const all = [
      annotated('x', made),
      annotated('y', { ...made, 'dvflow.io/retried': '1' }),
      dataVolume('z', 1),
    ];
    await readRuns({ workflow: { getHandle } } as unknown as Client, all);
    assert.deepEqual(asked, ['import/a/x', 'datavolume/a/y/y', 'datavolume/a/z/z']);
  });

  it('are cut off after ten', () => {
    const all = Array.from({ length: 12 }, (_, index) => dataVolume(`d${index}`, 5));
    const findings = check(
      all,
      Object.fromEntries(all.map(({ metadata }) => [metadata.uid, 'unknown'] as const)),
    );
    assert.equal(findings.length, 12);
    assert.match(findings.at(-1)?.found ?? '', /2 more do not come on/);
  });

  it('released volumes of ours are told after ten minutes', () => {
    const volume = (minutes: number, identity: string) => ({
      metadata: { name: `pv-${minutes}`, annotations: { hostPathProvisionerIdentity: identity } },
      spec: { persistentVolumeReclaimPolicy: 'Delete' },
      status: { phase: 'Released', lastPhaseTransitionTime: new Date(ago(minutes)) },
    });
    const volumes = [volume(30, 'dvflow'), volume(3, 'dvflow'), volume(60, 'somebody')];
    const [finding, ...more] = checkReleased({ value: volumes }, NOW);
    assert.match(finding?.found ?? '', /^1 wait to be removed: pv-30$/);
    assert.deepEqual(more, []);
  });
});
