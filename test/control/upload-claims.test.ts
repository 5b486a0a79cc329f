import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { WorkflowExecutionAlreadyStartedError, type Client } from '@temporalio/client';
import { createUploadClaims } from '../../workers/control/upload-claims.js';

type Claim = NonNullable<Parameters<ReturnType<typeof createUploadClaims>['changed']>[1]['after']>;

const TARGET = { 'cdi.kubevirt.io/storage.upload.target': '' };
const PHASE = 'cdi.kubevirt.io/storage.pod.phase';

function claim(annotations: Record<string, string>, uid = 'u-1'): Claim {
  return {
    metadata: { namespace: 'team-a', name: 'vm1', uid, resourceVersion: '1', annotations },
    spec: {},
    status: { phase: 'Pending' },
  };
}

/** Runs as Temporal would have them: one that was started runs until the test ends it, by failure or success. */
function setup() {
  const said: string[] = [];
  let running = false;
  let status = '';
  const start = async (
    type: string,
    { args: [input], workflowIdReusePolicy }: { args: [object]; workflowIdReusePolicy: string },
  ) => {
    const finished = status === 'COMPLETED' && workflowIdReusePolicy === 'ALLOW_DUPLICATE_FAILED_ONLY';
    if (running || finished) throw new WorkflowExecutionAlreadyStartedError('running', 'w', type);
    running = true;
    status = 'RUNNING';
    said.push(`start ${JSON.stringify(input)} ${workflowIdReusePolicy}`);
  };
  const uploads = createUploadClaims({
    client: { workflow: { start } } as unknown as Client,
    runs: {
      wake: async () => said.push('wake') > 0,
      withdraw: async ({ runId }) => void said.push(`withdraw ${runId}`),
      describe: async () => ({ running, status, runId: 'r-1' }) as never,
      cancel: async () => {
        said.push('cancel');
        setTimeout(() => (running = false), 100);
      },
    },
    logger: { warn: (message: string) => said.push(message) } as never,
  });
  let before: Claim | undefined;
  const change = async (after: Claim | undefined) => {
    uploads.changed('team-a/vm1', { ...(before ? { before } : {}), ...(after ? { after } : {}) });
    before = after;
    await pause(50);
  };
  const end = (as = 'FAILED'): void => {
    running = false;
    status = as;
  };
  return { said, change, uploads, end };
}

const REF = '"namespace":"team-a","name":"vm1","uid":"u-1"';
const FIRST = `start {${REF}} ALLOW_DUPLICATE_FAILED_ONLY`;

describe('claims that ask for an upload', () => {
  it('get a run, which ends when they ask no more, and another one when they ask again', async () => {
    const { said, change, uploads } = setup();
    await change(claim({}));
    assert.deepEqual(said, []);
    await change(claim(TARGET));
    await change(claim({ ...TARGET, [PHASE]: 'Running' }));
    await change(claim({ [PHASE]: 'Running' }));
    assert.deepEqual(said.slice(0, 1), [FIRST]);
    assert.deepEqual(said.slice(-2), ['withdraw r-1', 'cancel'], 'told before it is cancelled');
    said.length = 0;
    // before the run has ended
    await change(claim(TARGET));
    await pause(1_500);
    assert.deepEqual(
      said.filter((one) => one !== 'cancel'),
      [FIRST],
    );
    await uploads.stop();
  });

  it('that are deleted lose their run when their deletion begins, which a finalizer makes a change of its own', async () => {
    const { said, change, uploads } = setup();
    await change(claim(TARGET));
    const { metadata, ...rest } = claim(TARGET);
    await change({ ...rest, metadata: { ...metadata, deletionTimestamp: new Date() } });
    await change(undefined);
    assert.equal(said[0], FIRST);
    assert.ok(said.includes('cancel'), said.join());
    assert.ok(!said.includes('withdraw r-1'), 'it never asks again');
    await uploads.stop();
  });

  it('get another run when they ask again after one that has completed: with a disk, or since nothing was asked', async () => {
    const { said, change, uploads, end } = setup();
    await change(claim(TARGET));
    await change(claim({ ...TARGET, [PHASE]: 'Succeeded' }));
    end('COMPLETED');
    await change(claim({ ...TARGET, [PHASE]: 'Succeeded' }));
    await pause(1_500);
    said.length = 0;
    await change(claim(TARGET));
    assert.deepEqual(said, [`start {${REF}} ALLOW_DUPLICATE`]);
    await uploads.stop();
  });

  it('that have failed get another run for each value of dvflow.io/retry, when the last one has ended', async () => {
    const { said, change, uploads, end } = setup();
    await change(claim(TARGET));
    const failed = { ...TARGET, [PHASE]: 'Failed' };
    await change(claim(failed));
    await change(claim({ ...failed, 'dvflow.io/retry': '1' }));
    await pause(200);
    assert.deepEqual(said, [FIRST]);
    end();
    await pause(1_500);
    assert.deepEqual(said, [FIRST, `start {${REF},"retry":"1"} ALLOW_DUPLICATE`]);
    await change(claim({ ...failed, 'dvflow.io/retry': '1', 'dvflow.io/retried': '1' }));
    end();
    await pause(1_500);
    assert.equal(said.filter((one) => one.startsWith('start')).length, 2);
    await uploads.stop();
  });
});
