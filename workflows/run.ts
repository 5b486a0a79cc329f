/** What all runs have in common, whatever they fill: their state, which the query answers with, and the steps that change it alone. */
import { setCurrentDetails, setHandler } from '@temporalio/workflow';
import type { LifecycleStatus } from '../activities/types.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { statusQuery, wakeSignal, type Woken } from './messages.js';
import type { Run } from './run-state.js';

/** State of a run that begins, behind the query `status` and the signal `wake`; `progressAt` (ms since the epoch) is now by default. */
export function openRun(status: LifecycleStatus, progressAt = Date.now()): Run {
  const run: Run = {
    status,
    undo: [],
    handedOn: {},
    woken: false,
    signalled: false,
    progressAt,
    phaseAt: Date.now(),
  };
  setHandler(statusQuery, () => run.status);
  setHandler(wakeSignal, (woken?: Woken) => {
    run.woken = true;
    run.signalled = true;
    // a person may send anything
    const { deadlineMs } = woken ?? {};
    if (typeof deadlineMs === 'number' && deadlineMs > 0) run.deadlineMs = deadlineMs;
  });
  return run;
}

/** The steps of a lifecycle that are the same for a DataVolume and for a claim without one. */
export function stepsOf(
  run: Run,
): Pick<Lifecycle, 'step' | 'doing' | 'wake' | 'note' | 'commit' | 'handedOn'> {
  return {
    handedOn: run.handedOn,
    step(text) {
      run.status = { ...run.status, step: text };
      setCurrentDetails(text);
    },
    doing: () => run.status.step,
    wake() {
      run.woken = true;
    },
    note(noted) {
      run.status = { ...run.status, ...noted };
    },
    commit() {
      run.undo = [];
    },
  };
}

/** {@link Lifecycle.onFailure} of a run that may try one node for days: what is to be undone already is not added again. */
export function undoOnce(run: Run): Lifecycle['onFailure'] {
  return (what, undo, more = {}) => {
    if (run.undo.every((known) => known.what !== what)) run.undo.push({ what, run: undo, ...more });
  };
}
