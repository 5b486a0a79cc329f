import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import {
  cancel,
  failureOf,
  findRun,
  NoSuchRunError,
  startClone,
  startImport,
  status,
  type ImportStatus,
} from '../../client/index.js';
import type { DataVolumeManifest, TransferProgress } from '../../activities/types.js';
import { CONTROL_QUEUE } from '../../workflows/task-queues.js';
import { SOURCE_LOADER } from '../support/source-loader.js';
import { useWorkers } from './workers.js';

function manifest(
  name: string,
  http: object = { url: 'http://images.example/a.qcow2?sig=secret' },
): DataVolumeManifest {
  const storage = { resources: { requests: { storage: '1Gi' } } };
  return { metadata: { name, namespace: 'team-a' }, spec: { source: { http }, storage } };
}

/** The transfer of the stand-in: fails once where told, heartbeats, and ends when the test says so. */
function createTransfer() {
  const released = new Set<string>();
  async function transferImage(progress: TransferProgress): Promise<void> {
    const { info, heartbeat } = Context.current();
    const { workflowId } = info.workflowExecution!;
    if (workflowId.includes('flaky') && info.attempt < 3)
      throw new Error(`connection reset in attempt ${info.attempt}`);
    while (!released.has(workflowId)) {
      heartbeat(progress);
      await Context.current().sleep(50);
    }
  }
  return { transferImage, release: (workflowId: string) => released.add(workflowId) };
}

async function until<T>(look: () => Promise<T>, found: (value: T) => boolean): Promise<T> {
  for (;;) {
    const value = await look();
    if (found(value)) return value;
    await sleep(100);
  }
}

describe('client, against a Temporal server', function () {
  this.timeout(60_000);
  const transfer = createTransfer();
  const server = useWorkers({
    workflows: new URL('./stand-in.ts', import.meta.url),
    queues: () => ({ [CONTROL_QUEUE]: { transferImage: transfer.transferImage } }),
    heartbeatMs: 100,
  });

  async function end(workflowId: string, how: object = {}): Promise<void> {
    transfer.release(workflowId);
    await server().client.workflow.getHandle(workflowId).signal('end', how);
  }

  it('starts by name and DataVolume, and hands over the result', async () => {
    const handle = await startImport(server().client, manifest('vm1'));
    assert.equal(handle.workflowId, 'import/team-a/vm1');
    await end(handle.workflowId);
    assert.deepEqual(await handle.result(), {
      claim: { namespace: 'team-a', name: 'vm1' },
      volume: 'pvc-of-vm1',
    });
  });

  it('starts a clone, of a claim or by a DataSource, and says of what', async () => {
    const metadata = { name: 'copy', namespace: 'team-a' };
    const spec = { source: { pvc: { namespace: 'images', name: 'golden' } }, storage: {} };
    const handle = await startClone(server().client, { metadata, spec });
    assert.equal(handle.workflowId, 'clone/team-a/copy');
    const described = await server().client.workflow.getHandle(handle.workflowId).describe();
    assert.deepEqual(described.searchAttributes.DataVolumeSource, ['pvc']);
    assert.equal(await described.staticSummary(), 'Clone team-a/copy from images/golden');
    await end(handle.workflowId);
    await handle.result();
    const reference = { sourceRef: { kind: 'DataSource', name: 'os' }, storage: {} };
    const other = await startClone(server().client, {
      metadata: { ...metadata, name: 'by-os' },
      spec: reference,
    });
    const said = await server().client.workflow.getHandle(other.workflowId).describe();
    assert.equal(await said.staticSummary(), 'Clone team-a/by-os from team-a/os');
    await end(other.workflowId);
  });

  it('sets search attributes and a summary that hold no query of the URL', async () => {
    const { workflowId } = await startImport(server().client, manifest('seen'));
    const described = await server().client.workflow.getHandle(workflowId).describe();
    assert.deepEqual(described.searchAttributes.DataVolumeNamespace, ['team-a']);
    assert.deepEqual(described.searchAttributes.DataVolumeName, ['seen']);
    assert.deepEqual(described.searchAttributes.DataVolumeSource, ['http']);
    assert.equal(await described.staticSummary(), 'Import team-a/seen from http://images.example/a.qcow2');
    assert.doesNotMatch((await described.staticDetails()) ?? '', /secret/);
    await end(workflowId);
  });

  it('refuses a second start of the same name while the first one runs', async () => {
    const { workflowId } = await startImport(server().client, manifest('twice'));
    await assert.rejects(
      startImport(server().client, manifest('twice')),
      WorkflowExecutionAlreadyStartedError,
    );
    await end(workflowId);
  });

  it('takes a run that found its DataVolume finished for no success', async () => {
    const handle = await startImport(server().client, manifest('finished'));
    const error: unknown = await handle.result().catch((thrown: unknown) => thrown);
    assert.equal(failureOf(error).type, 'ResourceExists');
    assert.match(
      failureOf(error).message,
      /^DataVolume team-a\/finished exists, made by an earlier run of import\/team-a\/finished/,
    );
  });

  it('refuses credentials before anything reaches Temporal', async () => {
    const withUser = manifest('secret', { url: 'http://user:pw@images.example/a' });
    await assert.rejects(
      startImport(server().client, withUser),
      /URL of images\.example carries user info.*secretRef/,
    );
    const withHeader = manifest('secret', {
      url: 'http://images.example/a',
      extraHeaders: ['authorization: Bearer x'],
    });
    await assert.rejects(
      startImport(server().client, withHeader),
      /carries authorization.*secretExtraHeaders/,
    );
    await assert.rejects(status(server().client, 'import/team-a/secret'), NoSuchRunError);
  });

  it('merges the workflow’s facts with the live heartbeat', async () => {
    const handle = await startImport(server().client, manifest('live'));
    const live = await until(
      () => handle.status(),
      ({ progress }) => progress !== undefined,
    );
    assert.equal(live.phase, 'ImportInProgress');
    assert.equal(live.state, 'RUNNING');
    assert.deepEqual(
      [live.progress?.bytesRead, live.progress?.bytesWritten, live.progress?.rate],
      [1024, 2048, 512],
    );
    await end(handle.workflowId);
    await handle.result();
    const closed = await handle.status();
    assert.deepEqual([closed.state, closed.progress], ['COMPLETED', undefined]);
    assert.ok(closed.closedAt! >= closed.startedAt);
  });

  it('tells how a lifecycle stands that goes on as another run', async () => {
    const handle = await startImport(server().client, manifest('renewed'));
    await end(handle.workflowId, { renew: true });
    const renewed = await until(
      () => handle.status(),
      ({ runId }) => runId !== handle.runId,
    );
    assert.equal(renewed.state, 'RUNNING');
    await end(handle.workflowId);
    await handle.result();
    assert.equal((await handle.status()).state, 'COMPLETED');
    // another lifecycle of the same id is none of its business
    const other = await startImport(server().client, manifest('renewed'));
    assert.equal((await handle.status()).runId, handle.runId);
    assert.equal((await other.status()).runId, other.runId);
    await end(other.workflowId);
  });

  it('tells what an activity is being retried for', async () => {
    const handle = await startImport(server().client, manifest('flaky'));
    const retried = await until(
      () => handle.status(),
      ({ retrying }: ImportStatus) => retrying[0]?.attempt === 3,
    );
    assert.equal(retried.retrying[0]?.activity, 'transferImage');
    assert.match(retried.retrying[0]?.failure ?? '', /connection reset in attempt 2/);
    await end(handle.workflowId);
  });

  it('finds the newest run of a DataVolume, whatever its id', async () => {
    const first = await startImport(server().client, manifest('again'));
    await end(first.workflowId);
    await first.result();
    const second = await startImport(server().client, manifest('again'), { workflowId: 'by-hand' });
    const found = await until(
      () => findRun(server().client, { namespace: 'team-a', name: 'again' }),
      (run) => run.runId === second.runId,
    );
    assert.equal(found.workflowId, 'by-hand');
    await end('by-hand');
  });

  it('keeps quotes in names inside the query', async () => {
    await assert.rejects(
      findRun(server().client, { namespace: "a' OR DataVolumeName = 'vm1", name: 'x\\' }),
      NoSuchRunError,
    );
  });

  it('cancels by DataVolume; a run that is closed is told', async () => {
    const handle = await startImport(server().client, manifest('stopped'));
    await until(
      () => handle.status(),
      ({ progress }) => progress !== undefined,
    );
    assert.equal(
      (await cancel(server().client, { namespace: 'team-a', name: 'stopped' })).workflowId,
      handle.workflowId,
    );
    await assert.rejects(handle.result(), (error) => failureOf(error).type === 'Cancelled');
    await assert.rejects(
      cancel(server().client, handle.workflowId),
      /does not run, so that there is nothing to cancel/,
    );
  });

  /** Runs the program of the README, as another service would. */
  async function runExample(name: string) {
    const program = fileURLToPath(new URL('../docs/start-import.ts', import.meta.url));
    const child = spawn(process.execPath, [...SOURCE_LOADER, program, name, 'http://images.example/a'], {
      env: { ...process.env, TEMPORAL_ADDRESS: server().address },
    });
    const chunks: Buffer[] = [];
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    const ended = new Promise((resolve) => child.once('close', resolve));
    const said = async () => ({ code: await ended, text: Buffer.concat(chunks).toString() });
    const workflowId = `import/default/${name}`;
    await until(
      () => findRun(server().client, { namespace: 'default', name }).catch(() => undefined),
      Boolean,
    );
    return { workflowId, said };
  }

  it('serves the example program of the README', async () => {
    const { workflowId, said } = await runExample('example');
    await end(workflowId);
    assert.deepEqual(await said(), { code: 0, text: 'claim default/example is Bound to pvc-of-example\n' });
  });

  it('tells the example program why an import failed', async () => {
    const { workflowId, said } = await runExample('example-gone');
    await end(workflowId, { type: 'SourceNotFound', message: 'it answers 404' });
    const text = 'import/default/example-gone failed: SourceNotFound: it answers 404\n';
    assert.deepEqual(await said(), { code: 1, text });
  });

  it('reads the failure type from the bottom of the chain', async () => {
    const handle = await startImport(server().client, manifest('gone'));
    await end(handle.workflowId, { type: 'SourceNotFound', message: 'http://images.example/a answers 404' });
    const error: unknown = await handle.result().catch((thrown: unknown) => thrown);
    assert.deepEqual(failureOf(error), {
      type: 'SourceNotFound',
      message: 'http://images.example/a answers 404',
    });
  });

  it('tells a terminated run from a failed one', async () => {
    const handle = await startImport(server().client, manifest('killed'));
    await server().client.workflow.getHandle(handle.workflowId).terminate('by hand');
    const error: unknown = await handle.result().catch((thrown: unknown) => thrown);
    assert.equal(failureOf(error).type, 'Terminated');
  });
});
