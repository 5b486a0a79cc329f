import assert from 'node:assert/strict';
import { permanentFailure } from '../../activities/failures.js';
import type { FailureType, StatusUpdate } from '../../activities/types.js';
import { CONTROL_QUEUE } from '../../workflows/task-queues.js';
import { useWorkers } from '../client/workers.js';

const TARGET = { storageClass: 'fast', claim: 'create', usableBytes: 1, pool: { path: '/pool' } };

/** Steps of a lifecycle, by activity, that fail here, and whether its claim is what is wrong. */
const FAILURES: readonly (readonly [workflow: string, step: string, FailureType, said: boolean])[] = [
  ['importDataVolume', 'planTarget', 'IncompatiblePVC', true],
  ['blankDataVolume', 'planTarget', 'IncompatiblePVC', true],
  ['uploadDataVolume', 'planTarget', 'IncompatiblePVC', true],
  ['uploadDataVolume', 'planTarget', 'StorageClassNotFound', true],
  ['uploadDataVolume', 'planTarget', 'InvalidDataVolume', true],
  ['uploadDataVolume', 'planTarget', 'ContentTypeNotSupported', true],
  ['uploadDataVolume', 'planTarget', 'ResourceExists', false],
  ['blankDataVolume', 'ensureClaim', 'IncompatiblePVC', true],
  ['blankDataVolume', 'ensureClaim', 'ResourceExists', false],
  ['importDataVolume', 'inspectSource', 'InvalidDataVolume', false],
  // its claim is there
  ['blankDataVolume', 'listCandidates', 'IncompatiblePVC', false],
];

describe('a DataVolume that fails', function () {
  this.timeout(60_000);
  let fails: readonly [step: string, FailureType];
  const updates: StatusUpdate[] = [];

  const server = useWorkers({
    workflows: new URL('../../workflows/index.ts', import.meta.url),
    queues: () => ({ [CONTROL_QUEUE]: activities() }),
  });

  for (const [workflow, step, type, said] of FAILURES)
    it(`${workflow}: ${type} of ${step} is ${said ? '' : 'not '}told as that of a claim which cannot be made`, async () => {
      fails = [step, type];
      updates.splice(0);
      const run = server().client.workflow.execute(workflow, {
        workflowId: `${workflow}-${step}-${type}`,
        taskQueue: CONTROL_QUEUE,
        args: [{ namespace: 'team-a', name: 'disk', uid: 'u1' }],
      });
      await assert.rejects(run);
      const last = updates.find(({ phase }) => phase === 'Failed');
      assert.equal(last?.event?.reason, type);
      assert.equal(last.claimNotValid ?? false, said);
    });

  function activities(): Record<string, (input: never) => Promise<unknown>> {
    const source = { namespace: 'team-a', name: 'disk', uid: 'u1', source: 'http', contentType: 'kubevirt' };
    const answers: Readonly<Record<string, unknown>> = {
      openDataVolume: { ...source, displayUrl: '', phase: '', deadlineMs: 60_000 },
      planTarget: TARGET,
      inspectSource: {},
      ensureClaim: { namespace: 'team-a', name: 'disk', uid: 'c1' },
      listCandidates: {},
      deleteClaim: undefined,
    };
    const answering = Object.entries(answers).map(([name, answer]) => [
      name,
      async () => {
        if (fails[0] === name) throw permanentFailure(fails[1], 'as the test says');
        return answer;
      },
    ]);
    return {
      ...(Object.fromEntries(answering) as Record<string, () => Promise<unknown>>),
      recordStatus: async (update: StatusUpdate) => {
        updates.push(update);
        return { exists: true };
      },
    };
  }
});
