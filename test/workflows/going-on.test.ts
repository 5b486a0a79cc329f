import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { ApplicationFailure } from '@temporalio/common';
import { wakeSignal } from '../../workflows/messages.js';
import { CONTROL_QUEUE } from '../../workflows/task-queues.js';
import { useWorkers } from '../client/workers.js';
import { recordHistory } from '../live/record.js';

/** Events after which a run continues as new. */
const LONG = 120;
const MiB = 1 << 20;

/** What a lifecycle asked of its surroundings, in all its runs. */
interface Seen {
  planned: number;
  inspected: number;
  readonly made: { readonly requestBytes: number; readonly storageClass: string }[];
  looks: number;
  chosen: boolean;
}

describe('a lifecycle that waits so long for its consumer that another run goes on', function () {
  this.timeout(120_000);
  const seen = new Map<string, Seen>();
  const of = ({ dataVolume }: { dataVolume: { uid: string } }): Seen => seen.get(dataVolume.uid)!;

  const server = useWorkers({
    workflows: new URL('../../workflows/index.ts', import.meta.url),
    queues: () => ({ [CONTROL_QUEUE]: activities }),
    settings: { 'limit.historyCount.suggestContinueAsNew': LONG },
  });

  /** With each look the cluster has another default class and another overhead, and the source goes away. */
  const activities = {
    openDataVolume: async ({ start }: { start: { name: string; uid: string } }) => ({
      namespace: 'a',
      name: start.name,
      uid: start.uid,
      source: start.name === 'blank' ? 'blank' : 'http',
      contentType: 'kubevirt',
      phase: seen.get(start.uid)!.made.length === 0 ? '' : 'WaitForFirstConsumer',
      deadlineMs: 3_600_000,
    }),
    recordStatus: async () => ({ exists: true }),
    judgeTarget: async () => ({ claim: 'create' }),
    planTarget: async (input: { dataVolume: { uid: string } }) => {
      const planned = (of(input).planned += 1);
      return {
        claim: 'create',
        storageClass: `class-${planned}`,
        waitForConsumer: true,
        volumeMode: 'Filesystem',
        requestBytes: planned * MiB,
        usableBytes: planned * MiB,
        pool: { name: 'p', path: '/pool', useNamingPrefix: false },
      };
    },
    inspectSource: async (input: { dataVolume: { uid: string } }) => {
      if ((of(input).inspected += 1) > 1) throw failed('SourceNotFound', 'it is gone');
      return { format: 'raw', containers: [], validators: {}, ranges: true, plan: 'ranged', reason: '' };
    },
    ensureClaim: async (input: { dataVolume: { name: string; uid: string }; target: Seen['made'][0] }) => {
      const { requestBytes, storageClass } = input.target;
      of(input).made.push({ requestBytes, storageClass });
      return { namespace: 'a', name: input.dataVolume.name, uid: input.dataVolume.uid };
    },
    listCandidates: async ({ claim }: { claim: { uid: string } }) => {
      const world = seen.get(claim.uid)!;
      world.looks += 1;
      if (world.chosen) throw failed('ImageInvalid', 'the end of the test');
      return { chosenBy: 'any', immediate: false, candidates: [] };
    },
    deleteClaim: async () => undefined,
  };

  for (const [type, name, inspections] of [
    ['importDataVolume', 'import', 1],
    ['blankDataVolume', 'blank', 0],
    ['uploadDataVolume', 'upload', 0],
  ] as const)
    it(`makes its claim by one plan, whatever changes meanwhile: ${type}`, async () => {
      const world: Seen = { planned: 0, inspected: 0, made: [], looks: 0, chosen: false };
      seen.set(name, world);
      const handle = await server().client.workflow.start(type, {
        taskQueue: CONTROL_QUEUE,
        workflowId: name,
        args: [{ namespace: 'a', name, uid: name }],
      });
      const { runId } = await handle.describe();
      while (world.made.length < 2 || (await handle.describe()).runId === runId) {
        await handle.signal(wakeSignal);
        await pause(50);
      }
      world.chosen = true;
      await handle.signal(wakeSignal);
      await assert.rejects(handle.result(), (error: Error) => {
        assert.match(String((error.cause as Error).cause ?? error.cause), /the end of the test/);
        return true;
      });
      await recordHistory({ temporal: server().client }, name, `${type}.failed.went-on`);
      assert.deepEqual([world.planned, world.inspected], [1, inspections]);
      assert.deepEqual(
        [...new Set(world.made.map((made) => JSON.stringify(made)))],
        [JSON.stringify({ requestBytes: MiB, storageClass: 'class-1' })],
      );
    });
});

describe('a lifecycle that waits for a volume, when one comes that is kept for its claim as it is', function () {
  this.timeout(60_000);
  const asked: string[] = [];
  const activities = {
    openDataVolume: async ({ start }: { start: { name: string; uid: string } }) => ({
      namespace: 'a',
      name: start.name,
      uid: start.uid,
      source: 'blank',
      contentType: 'kubevirt',
      phase: asked.length === 0 ? '' : 'Pending',
      deadlineMs: 3_600_000,
    }),
    recordStatus: async () => ({ exists: true }),
    planTarget: async () => {
      asked.push('plan');
      return asked.length === 1
        ? { claim: 'create', staticVolume: true, volumeMode: 'Filesystem', waitForConsumer: false }
        : { claim: 'adopt', adoptUid: 'claim-uid' };
    },
    reserveVolume: async () => {
      asked.push('reserve');
      return { waitFor: 'it is kept for the claim as it is', kept: true };
    },
    adoptClaim: async () => ({ namespace: 'a', name: 'kept', uid: 'claim-uid', volume: 'kept-volume' }),
  };
  const server = useWorkers({
    workflows: new URL('../../workflows/index.ts', import.meta.url),
    queues: () => ({ [CONTROL_QUEUE]: activities }),
  });

  it('plans anew, and adopts the claim', async () => {
    const result: unknown = await server().client.workflow.execute('blankDataVolume', {
      taskQueue: CONTROL_QUEUE,
      workflowId: 'kept',
      args: [{ namespace: 'a', name: 'kept', uid: 'kept' }],
    });
    assert.deepEqual(result, { claim: { namespace: 'a', name: 'kept' }, volume: 'kept-volume' });
    assert.deepEqual(asked, ['plan', 'reserve', 'plan']);
  });
});

function failed(type: string, message: string): ApplicationFailure {
  return ApplicationFailure.create({ type, message, nonRetryable: true });
}
