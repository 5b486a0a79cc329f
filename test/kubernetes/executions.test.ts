import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { NativeConnection, Worker } from '@temporalio/worker';
import { createExecutionObserver, isOpen } from '../../activities/kubernetes/executions.js';
import type { TransferProgress } from '../../activities/types.js';
import { useControlPlane } from './support/control-plane.js';

// the development server knows no pause yet, which newer ones do
describe('a run that is not at its end', () => {
  for (const [name, open] of [
    ['RUNNING', true],
    ['PAUSED', true],
    ['COMPLETED', false],
    ['FAILED', false],
    ['CANCELLED', false],
    ['TERMINATED', false],
    ['TIMED_OUT', false],
  ] as const)
    it(`${name}: ${open ? 'open' : 'closed'}`, () => {
      assert.equal(isOpen({ status: { code: 0, name } }), open);
    });
});

describe('what Temporal says about executions', function () {
  this.timeout(60_000);
  const plane = useControlPlane();

  it('reads the bytes of a transfer from its last heartbeat, as long as it runs', async () => {
    const { temporal, info } = plane();
    const observer = createExecutionObserver(temporal);
    const connection = await NativeConnection.connect({ address: info.temporalAddress });
    let finish = (): void => undefined;
    const finished = new Promise<void>((resolve) => (finish = resolve));
    const progress: Partial<TransferProgress> = { phase: 'transferring', bytesRead: 40, bytesWritten: 2 };
    const worker = await Worker.create({
      connection,
      taskQueue: 'executions',
      workflowsPath: fileURLToPath(new URL('./support/transfer-workflow.ts', import.meta.url)),
      activities: {
        async transferImage(): Promise<void> {
          Context.current().heartbeat(progress);
          await finished;
        },
      },
    });
    await worker.runUntil(async () => {
      const workflowId = 'executions/1';
      assert.deepEqual(
        [await observer.stateOf(workflowId), await observer.transferredBytes(workflowId)],
        ['unknown', 0],
      );
      const handle = await temporal.workflow.start('transferSomething', {
        workflowId,
        taskQueue: 'executions',
      });
      assert.equal(await observer.stateOf(workflowId), 'running');
      while ((await observer.transferredBytes(workflowId)) === 0) await sleep(100);
      assert.equal(await observer.transferredBytes(workflowId), 42);
      finish();
      await handle.result();
      assert.deepEqual(
        [await observer.stateOf(workflowId), await observer.transferredBytes(workflowId)],
        ['closed', 0],
      );
    });
    await connection.close();
  });
});
