import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection, isGrpcCancelledError, isGrpcDeadlineError } from '@temporalio/client';
import { startImport, type ImportHandle } from '../../client/index.js';
import { outlastOutages } from '../../client/outages.js';
import type { DataVolumeManifest } from '../../activities/types.js';
import { CONTROL_QUEUE } from '../../workflows/task-queues.js';
import { startProxy, type Proxy } from './proxy.js';
import { useWorkers } from './workers.js';

function manifest(name: string): DataVolumeManifest {
  const storage = { resources: { requests: { storage: '1Gi' } } };
  return {
    metadata: { name, namespace: 'team-a' },
    spec: { source: { http: { url: 'http://images.example/a' } }, storage },
  };
}

describe('result, while Temporal is away', function () {
  this.timeout(60_000);
  const server = useWorkers({
    workflows: new URL('./stand-in.ts', import.meta.url),
    queues: () => ({ [CONTROL_QUEUE]: { transferImage: async () => undefined } }),
  });
  let proxy: Proxy;
  let connection: Connection;
  let client: Client;

  beforeEach(async () => {
    proxy = await startProxy(server().address);
    // Temporal's own client would try for 20 s before it says anything
    connection = await Connection.connect({ address: proxy.address, interceptors: [] });
    client = new Client({ connection });
  });
  afterEach(async () => {
    await connection.close();
    await proxy.close();
  });

  async function end({ workflowId }: ImportHandle): Promise<void> {
    await server().client.workflow.getHandle(workflowId).signal('end', {});
  }

  /** Long enough for several tries. */
  async function cutForAWhile(): Promise<void> {
    await proxy.cut();
    await sleep(2_500);
  }

  it('goes on waiting, and hands over the result when Temporal is back', async () => {
    const handle = await startImport(client, manifest('outage'));
    const result = handle.result();
    await Promise.race([result, cutForAWhile()]);
    await end(handle);
    await proxy.mend();
    assert.equal((await result).volume, 'pvc-of-outage');
  });

  it('is told once to who asks', async () => {
    const { workflowId } = await startImport(client, manifest('told'));
    let outages = 0;
    const result = outlastOutages(
      client,
      () => client.workflow.getHandle(workflowId).result(),
      () => void outages++,
    );
    await Promise.race([result, cutForAWhile()]);
    await server().client.workflow.getHandle(workflowId).terminate();
    await proxy.mend();
    await assert.rejects(result, /terminated/i);
    assert.equal(outages, 1);
  });

  it('ends with the abort of the program, before, in and between the tries', async () => {
    const handle = await startImport(client, manifest('aborted'));
    const stop = new AbortController();
    const wait = async () => await client.withAbortSignal(stop.signal, () => handle.result());
    const waits = [wait()];
    await Promise.race([...waits, cutForAWhile()]);
    waits.push(wait());
    stop.abort();
    waits.push(wait());
    for (const waiting of waits) await assert.rejects(waiting, isGrpcCancelledError);
    await proxy.mend();
    await end(handle);
  });

  it('ends with the deadline of the program', async () => {
    const handle = await startImport(client, manifest('late'));
    await proxy.cut();
    await assert.rejects(
      client.withDeadline(Date.now() + 1_500, () => handle.result()),
      isGrpcDeadlineError,
    );
    await proxy.mend();
    await end(handle);
  });

  it('is no reason to wait for a run that Temporal does not know', async () => {
    const unknown = client.workflow.getHandle('import/team-a/none');
    await assert.rejects(
      outlastOutages(client, () => unknown.result()),
      { name: 'WorkflowNotFoundError' },
    );
  });
});
