import assert from 'node:assert/strict';
import type { DataVolume } from '../../activities/kubernetes/objects.js';
import { createWorkflowReaper } from '../../workers/control/reaper.js';
import type { RunFacts } from '../../workers/control/runs.js';

const MARK = 'import/team-a/vm1';
const GONE = {
  metadata: { namespace: 'team-a', name: 'vm1', uid: 'u1', annotations: { 'dvflow.io/workflow-id': MARK } },
  spec: {},
} as unknown as DataVolume;

/** A running lifecycle of that name; without a uid it has not opened its DataVolume yet. */
const run = (uid?: string): RunFacts => ({
  workflowId: MARK,
  runId: `run-of-${uid}`,
  running: true,
  cancelRequested: false,
  status: 'RUNNING',
  names: { namespace: 'team-a', name: 'vm1', ...(uid ? { uid } : {}) },
});

describe('the reaper of runs whose DataVolume is gone', () => {
  /** Latest run of each workflow id, as Temporal has them. */
  let latest: Map<string, RunFacts>;
  let reaper: ReturnType<typeof createWorkflowReaper>;
  /** Runs that the visibility list tells of, which may be a while ago. */
  let listed: readonly Pick<RunFacts, 'workflowId' | 'names'>[];

  beforeEach(() => {
    latest = new Map();
    listed = [];
    reaper = createWorkflowReaper({
      runs: {
        describe: async (id: string) => latest.get(id),
        cancel: async (asked: RunFacts) =>
          void latest.set(asked.workflowId, { ...asked, cancelRequested: true }),
        listRunning: async function* () {
          yield* listed;
        },
      } as unknown as Parameters<typeof createWorkflowReaper>[0]['runs'],
      writes: { find: async () => undefined },
      logger: { info: () => undefined },
    });
  });
  const isCancelled = (): boolean | undefined => latest.get(MARK)?.cancelRequested;

  it('cancels the run that names it', async () => {
    latest.set(MARK, run('u1'));
    reaper.add(GONE);
    assert.equal(await reaper.cancelRunsOf('team-a/vm1'), true);
    assert.equal(isCancelled(), true);
  });

  it('looks again at a run that has yet to read whose it is, and leaves the one of a namesake alone', async () => {
    latest.set(MARK, run());
    reaper.add(GONE);
    assert.equal(await reaper.cancelRunsOf('team-a/vm1'), false);
    assert.equal(isCancelled(), false);
    latest.set(MARK, run('u2'));
    assert.equal(await reaper.cancelRunsOf('team-a/vm1'), true);
    assert.equal(isCancelled(), false);
  });

  it('cancels such a run once it has read the uid of what is gone', async () => {
    latest.set(MARK, run());
    reaper.add(GONE);
    await reaper.cancelRunsOf('team-a/vm1');
    latest.set(MARK, run('u1'));
    assert.equal(await reaper.cancelRunsOf('team-a/vm1'), true);
    assert.equal(isCancelled(), true);
  });

  it('forgets a run that ended without having read it', async () => {
    latest.set(MARK, run());
    reaper.add(GONE);
    await reaper.cancelRunsOf('team-a/vm1');
    latest.set(MARK, { ...run(), running: false, status: 'FAILED' });
    assert.equal(await reaper.cancelRunsOf('team-a/vm1'), true);
  });

  it('does not take a run that has just begun for the orphan of before, which had the same id', async () => {
    listed = [run('u1')];
    latest.set(MARK, run());
    await reaper.cancelOrphans();
    assert.equal(isCancelled(), false);
    latest.set(MARK, run('u1'));
    await reaper.cancelOrphans();
    assert.equal(isCancelled(), true);
  });
});
