import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { DeterminismViolationError } from '@temporalio/workflow';
import {
  DefaultLogger,
  Worker,
  type WorkflowBundle,
  type WorkflowBundleWithSourceMap,
} from '@temporalio/worker';
import { bundleWorkflows } from '../../workers/workflow-code.js';
import { chosen } from '../support/breadth.js';
import { recordedHistories, type RecordedHistory } from './histories.js';
import { UNCHANGED, writeMutants } from './mutants.js';

const logger = new DefaultLogger('ERROR');

describe('replay of recorded histories', function () {
  this.timeout(120_000);
  let workflowBundle: WorkflowBundleWithSourceMap;

  before(async () => {
    const workflowsPath = fileURLToPath(new URL('../../workflows/index.ts', import.meta.url));
    workflowBundle = await bundleWorkflows({ workflowsPath, logger });
  });

  it('has histories of every outcome', () => {
    const outcomes = recordedHistories().map(({ name }) => name.split('.').slice(0, 2).join('.'));
    for (const outcome of ['succeeded', 'retried', 'failed', 'cancelled', 'resumed']) {
      for (const lifecycle of ['importDataVolume', 'blankDataVolume', 'cloneDataVolume'])
        assert.ok(outcomes.includes(`${lifecycle}.${outcome}`), `no history ${lifecycle}.${outcome}`);
    }
    const others = [
      'uploadDataVolume.succeeded',
      'uploadDataVolume.resumed',
      'uploadDataVolume.failed',
      'uploadDataVolume.cancelled',
      'uploadClaim.succeeded',
      'uploadClaim.failed',
      'uploadClaim.cancelled',
      'provisionVolume.succeeded',
      'provisionVolume.refused',
      'provisionVolume.abandoned',
      'provisionVolume.cancelled',
      'publishCapacity.succeeded',
      'reclaimVolume.succeeded',
      'reclaimVolume.retained',
      'reclaimVolume.released',
      'sweep.succeeded',
      'returnReservedVolume.succeeded',
      'examineNodes.succeeded',
      'prepareStorage.succeeded',
      'prepareStorage.failed',
      'prepareStorage.cancelled',
      'prepareStorage.removed',
      'recheckNode.succeeded',
    ];
    for (const outcome of others) assert.ok(outcomes.includes(outcome), `no history ${outcome}`);
  });

  it('bundles no activity code and nothing of Node', () => {
    assert.match(workflowBundle.code, /importDataVolume/);
    assert.doesNotMatch(
      workflowBundle.code,
      /client-node|createKubernetesActivities|createTransferActivities/,
    );
  });

  const refusalOf = useReplays(() => workflowBundle);
  for (const history of recordedHistories()) {
    it(`${history.name} replays`, async () => {
      const refusal = await refusalOf(history.as(history.workflowType));
      if (refusal) throw refusal;
    });
  }
});

describe('mutants of the workflows', function () {
  this.timeout(600_000);
  // Inside the tree, so that the mutants find node_modules.
  const directory = fileURLToPath(new URL('../.mutants/', import.meta.url));
  const mutants = writeMutants(directory);
  const histories = recordedHistories();
  // Long ones first, then whichever refused last: one or two of dozens do for most steps.
  const likely = histories.toSorted((one, other) => other.events - one.events);

  after(() => rmSync(directory, { recursive: true, force: true }));

  describe('a copy that is no mutant', () => {
    const refusalOf = useReplays(useBundle(`${directory}${UNCHANGED}`));
    // the same code accepts all of them above; here it is the copying that is tried
    for (const history of chosen(histories, (_, index) => index % 8 === 0))
      it(`accepts ${history.name}`, async () => {
        const renamed = history.as(`${history.workflowType}__unchanged`);
        assert.equal(await refusalOf(renamed), undefined);
      });
  });

  for (const [entry, together] of Map.groupBy(mutants, (mutant) => mutant.entry))
    describe(`those of ${entry}`, () => {
      const refusalOf = useReplays(useBundle(`${directory}${entry}`));
      for (const mutant of together)
        it(`is refused: ${mutant.title}`, async () => {
          const concerned = likely.filter(({ workflowType }) => workflowType === mutant.workflowType);
          for (const history of concerned) {
            const refusal = await refusalOf(history.as(mutant.exportName));
            if (!(mutant.mustBeDeterminism ? refusal instanceof DeterminismViolationError : refusal))
              continue;
            likely.splice(likely.indexOf(history), 1);
            likely.unshift(history);
            return;
          }
          assert.fail(`${concerned.length} histories accept this change`);
        });

      it('are refused for what they are: the worker still accepts what is no mutant', async () => {
        const type = together[0]?.workflowType;
        const history = histories.find(({ workflowType }) => workflowType === type);
        assert.ok(history);
        assert.equal(await refusalOf(history.as(`${type}__unchanged`)), undefined);
      });
    });
});

/** Bundles an entry before the suite's tests, and lets go of it after them. */
function useBundle(workflowsPath: string): () => WorkflowBundle {
  let bundle: WorkflowBundle | undefined;
  before(async () => {
    const { code } = await bundleWorkflows({ workflowsPath, logger });
    bundle = { code: withoutSourceMap(code) };
  });
  after(() => (bundle = undefined));
  return () => {
    if (bundle === undefined) throw new Error('the bundle is used outside of its suite');
    return bundle;
  };
}

/** The map of a hundred copies is too much for the decoder that makes stack traces readable: an empty one takes its place. */
function withoutSourceMap(code: string): string {
  const empty = Buffer.from(
    '{"version":3,"file":"mutants.js","sources":[],"names":[],"mappings":""}',
  ).toString('base64');
  // the map has tens of megabytes: a pattern that runs over it takes more stack than there is
  const begins = /sourceMappingURL=data:application\/json[^,]{0,100}base64,/g;
  const parts: string[] = [];
  let at = 0;
  for (const found of code.matchAll(begins)) {
    const start = found.index + found[0].length;
    const end = code.slice(start).search(/[^A-Za-z0-9+/=]/);
    parts.push(code.slice(at, start), empty);
    at = end < 0 ? code.length : start + end;
  }
  return parts.join('') + code.slice(at);
}

type History = ReturnType<RecordedHistory['as']>;

/** Replays histories one by one, and tells what each is refused by; the suite has one worker for all of them, which takes the bundle in once. */
function useReplays(bundle: () => WorkflowBundle): (history: History) => Promise<Error | undefined> {
  let asked: History = {};
  let replays: ReturnType<typeof Worker.runReplayHistories> | undefined;
  // asked for the next one when a result is
  async function* histories() {
    for (;;) yield { workflowId: 'replayed', history: asked };
  }
  after('end the worker', async () => {
    await replays?.return?.();
    replays = undefined;
  });
  return async (history) => {
    asked = history;
    replays ??= Worker.runReplayHistories({ workflowBundle: bundle() }, histories());
    const result = await replays.next();
    if (result.done) throw new Error('the worker has ended');
    return result.value.error;
  };
}
