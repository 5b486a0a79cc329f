import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { descriptionText } from '../../cli/render/description.js';
import { historyText, tellHistory, type HistoryLine } from '../../cli/render/history.js';
import { STEPS } from '../../cli/render/steps.js';
import { statusOf } from './status.js';

/** Events of a real run, without those of workflow tasks and without what is not told. */
function load(name: string): { events: { eventType: string }[] } {
  const text = readFileSync(new URL(`./histories/${name}.json`, import.meta.url), 'utf8');
  return JSON.parse(text) as { events: { eventType: string }[] };
}

function tell(history: object): readonly HistoryLine[] {
  return tellHistory(historyFromJSON(history));
}

function texts(lines: readonly HistoryLine[]): readonly string[] {
  return lines.map(({ text }) => text);
}

describe('history in plain words', () => {
  it('tells a retry that succeeded: phases, steps and what came of them, in order', () => {
    const told = texts(tell(load('watched'))).map((text) =>
      text.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'UID'),
    );
    assert.deepEqual(told, [
      'started by the watch for DataVolume UID, as retry 2026-11-23T21:35:33.450Z',
      'open the DataVolume',
      'phase Pending',
      'plan the target',
      'inspect the source: qcow2, 100 MiB, ranged: qcow2 is read in guest order by ranges; no scratch space is needed',
      'create the claim',
      'phase ImportScheduled',
      'look for nodes',
      'ask a node for its room: vm has 68.1 GiB of 252 GiB',
      'reserve a directory: pvc-UID on vm',
      'copy the credentials',
      'phase ImportInProgress',
      'transfer the image: read 39.3 MiB, wrote 38.2 MiB',
      'verify the disk',
      'publish the volume: pvc-UID',
      'remove the copy of the credentials',
      'take the mark off the directory',
      'phase Succeeded',
      'finished: claim default/d2, volume pvc-UID',
    ]);
  });

  it('tells a clone: its source, what that holds, and how it was cloned', () => {
    const recorded = new URL('../histories/cloneDataVolume.succeeded.json', import.meta.url);
    const told = texts(tell(JSON.parse(readFileSync(recorded, 'utf8')) as object));
    const of = (words: string): string | undefined => told.find((text) => text.startsWith(words));
    assert.match(of('look at the source') ?? '', /^look at the source: claim \S+\/golden on \S+$/);
    assert.match(of('measure the source') ?? '', /^measure the source: 64 MiB, 16 MiB of it allocated$/);
    assert.match(of('choose how to clone') ?? '', /^choose how to clone: sparse copy by extents on node /);
    for (const text of told) assert.doesNotMatch(text, /^\w*[a-z][A-Z]\w*(:|$)/, 'a step without words');
  });

  it('tells a cancellation: what was stopped, and what was removed after it', () => {
    const told = texts(tell(load('cancelled')));
    assert.equal(told[0], 'started from Temporal with a manifest');
    assert.deepEqual(told.slice(-7), [
      'transfer the image: stopped',
      'cancellation asked for',
      'remove the copy of the credentials',
      'remove the directory',
      'remove the claim',
      'phase Failed',
      'cancelled: everything that was made is removed',
    ]);
  });

  it('tells attempts and the failure at the bottom of the chain, once', () => {
    const failure =
      'SourceUnavailable: GET https://images.example.com/disk.qcow2: host name not found (ENOTFOUND)';
    const lines = tell(load('retried'));
    const inspected = lines.find(({ text }) => text.startsWith('inspect'));
    assert.equal(inspected?.text, `inspect the source: failed: ${failure} (attempt 10)`);
    assert.equal(Math.round(inspected?.tookMs ?? 0) > 240_000, true);
    assert.equal(lines.at(-1)?.text, `failed: ${failure}`);
  });

  it('tells what is under way', () => {
    const { events } = load('cancelled');
    const stopped = events.findIndex(
      ({ eventType }) => eventType === 'EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED',
    );
    assert.deepEqual(texts(tell({ events: events.slice(0, stopped) })).slice(-2), [
      'phase ImportInProgress',
      'transfer the image: not finished',
    ]);
  });

  it('writes time of day, offset and duration', () => {
    const [first, second] = historyText(tell(load('watched'))).split('\n');
    assert.match(first!, /^ {2}21:35:33 {2}\+0\.00s +started by the watch/);
    assert.match(second!, /^ {2}21:35:33 {2}\+0\.1s +open the DataVolume {2}\[0\.\ds\]$/);
  });

  it('has words for each activity of the recorded runs', () => {
    const scheduled = ['watched', 'cancelled', 'retried'].flatMap((name) => load(name).events) as {
      activityTaskScheduledEventAttributes?: { activityType: { name: string } };
    }[];
    const names = new Set(
      scheduled.flatMap((event) => event.activityTaskScheduledEventAttributes?.activityType.name ?? []),
    );
    assert.ok(names.size >= 12);
    assert.deepEqual(
      [...names].filter((name) => !(name in STEPS)),
      [],
    );
  });
});

describe('description', () => {
  const now = Date.parse('2026-11-23T10:00:30Z');

  it('gives the facts of a run that waits', () => {
    const waiting = { for: 'Secret team-a/basic does not exist', since: '2026-11-23T10:00:10Z' };
    const conditions = [
      { type: 'Running', status: 'False', reason: 'SecretNotFound', message: waiting.for },
    ] as const;
    const text = descriptionText(statusOf({ phase: 'Pending', waiting, conditions }), [], now);
    assert.deepEqual(text.split('\n'), [
      'DataVolume:  team-a/vm1',
      'Workflow:    datavolume/team-a/vm1/u1 (run r1)',
      'State:       Running, for 30s',
      'Phase:       Pending',
      'Now:         Pending  waiting: Secret team-a/basic does not exist',
      'Waiting:     Secret team-a/basic does not exist (for 20s)',
      'Conditions:',
      '  Running  False  SecretNotFound: Secret team-a/basic does not exist',
      'History:',
      '',
    ]);
  });

  it('gives failure, claim and node of a run that is closed', () => {
    const text = descriptionText(
      statusOf({
        state: 'FAILED',
        phase: 'Failed',
        closedAt: new Date('2026-11-23T10:00:12Z'),
        claim: { namespace: 'team-a', name: 'vm1', uid: 'c1' },
        node: 'node01',
        failure: { type: 'ChecksumMismatch', message: 'sha256 is a, expected b' },
      }),
      [],
      now,
    );
    assert.match(text, /^State: +Failed, took 12s$/m);
    assert.match(text, /^Claim: +team-a\/vm1 \(c1\)$/m);
    assert.match(text, /^Node: +node01$/m);
    assert.match(text, /^Failure: +ChecksumMismatch: sha256 is a, expected b$/m);
    assert.doesNotMatch(text, /^Now:/m);
  });
});
