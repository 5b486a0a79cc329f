import assert from 'node:assert/strict';
import { WorkflowFailedError } from '@temporalio/client';
import { ApplicationFailure, type TemporalFailure } from '@temporalio/common';
import { failureOf, startImport, status } from '../../client/index.js';
import { useStack } from '../support/stack.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { makeImages, type Images } from './images.js';
import { recordHistory } from './record.js';
import { assertSameDisk, createWorld, dataVolume, eventually, type World } from './world.js';

describe('an import started through Temporal', function () {
  this.timeout(120_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let server: FileServer;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 16, dataMiB: 8 });
    server = await startFileServer({ path: await images.as('qcow2') });
    namespace = await world.createNamespace('temporal');
  });
  after(async () => {
    await server.close();
    await images.remove();
  });

  const start = (argument: unknown, workflowId: string) =>
    stack.temporal.workflow.start('importDataVolume', { args: [argument], taskQueue: 'dvflow', workflowId });

  async function rejection(result: Promise<unknown>): Promise<ApplicationFailure> {
    const error = await result.then(
      () => assert.fail('succeeded'),
      (failure: unknown) => failure,
    );
    assert.ok(error instanceof WorkflowFailedError, String(error));
    let cause: TemporalFailure | Error | undefined = error.cause;
    while (cause && !(cause instanceof ApplicationFailure)) cause = cause.cause as Error | undefined;
    assert.ok(cause instanceof ApplicationFailure);
    return cause;
  }

  it('takes the manifest as an object, as the UI sends it, and marks the DataVolume', async () => {
    const handle = await start(dataVolume(namespace, 'by-object', { url: server.url }), 'by-object');
    const result = (await handle.result()) as { claim: object; volume: string };
    assert.deepEqual(result.claim, { namespace, name: 'by-object' });
    const made = await world.read(namespace, 'by-object');
    assert.equal(made?.metadata.annotations?.['dvflow.io/workflow-id'], 'by-object');
    assert.equal(made?.status?.phase, 'Succeeded');
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'by-object'));
    const { workflows } = await runsOf(made.metadata.uid);
    assert.deepEqual(workflows, ['by-object'], 'the watch started a second workflow');
  });

  it('takes the manifest as YAML and as JSON text', async () => {
    const manifest = dataVolume(namespace, 'by-json', { url: server.url });
    await (await start(JSON.stringify(manifest), 'by-json')).result();
    const yaml = [
      'apiVersion: cdi.kubevirt.io/v1beta1',
      'kind: DataVolume',
      `metadata: {name: by-yaml, namespace: ${namespace},`,
      `  annotations: {cdi.kubevirt.io/storage.bind.immediate.requested: ""}}`,
      'spec:',
      `  source: {http: {url: "${server.url}"}}`,
      '  storage: {storageClassName: hostpath-provisioner, resources: {requests: {storage: 64Mi}}}',
    ].join('\n');
    await (await start(yaml, 'by-yaml')).result();
    await recordHistory(stack, 'by-yaml', 'importDataVolume.succeeded.by-manifest');
    assert.equal((await world.read(namespace, 'by-yaml'))?.status?.phase, 'Succeeded');
  });

  it('is started, watched and awaited by another program through client/', async () => {
    const handle = await startImport(stack.temporal, dataVolume(namespace, 'by-client', { url: server.url }));
    const result = await handle.result();
    assert.equal(result.claim.name, 'by-client');
    const seen = await status(stack.temporal, { namespace, name: 'by-client' });
    assert.equal(seen.phase, 'Succeeded');
  });

  it('refuses nonsense with InvalidDataVolume and creates nothing', async () => {
    for (const [index, argument] of [
      null,
      42,
      {},
      { metadata: {} },
      'no: [yaml',
      { metadata: { name: 'x', namespace }, spec: {} },
    ].entries()) {
      const failure = await rejection((await start(argument, `nonsense-${index}`)).result());
      assert.equal(failure.type, 'InvalidDataVolume', `${JSON.stringify(argument)}: ${failure.message}`);
    }
  });

  it('refuses credentials in a manifest that Temporal would keep, and names the cure', async () => {
    const withUser = server.url.replace('http://', 'http://user:pass-word@');
    for (const [index, http] of [
      { url: withUser },
      { url: server.url, extraHeaders: ['Authorization: Bearer token'] },
    ].entries()) {
      const failure = await rejection(
        (await start(dataVolume(namespace, `secret-${index}`, http), `secret-${index}`)).result(),
      );
      assert.equal(failure.type, 'InvalidDataVolume');
      assert.match(failure.message, /Secret/);
      assert.doesNotMatch(failure.message, /pass-word/);
    }
  });

  it("ends with ResourceExists where another workflow's DataVolume has the name", async () => {
    const failure = await rejection(
      (await start(dataVolume(namespace, 'by-object', { url: server.url }), 'another')).result(),
    );
    assert.equal(failure.type, 'ResourceExists');
  });

  it('ends with ResourceExists where it is started again with another manifest, and with the same one does nothing', async () => {
    const again = async (url: string): Promise<unknown> =>
      await (await start(dataVolume(namespace, 'by-object', { url }), 'by-object')).result();
    assert.equal(await again(server.url), undefined);
    const failure = await rejection(again(`${server.url}?other`));
    assert.equal(failure.type, 'ResourceExists');
    assert.match(failure.message, /of another manifest \(spec\.source\.http\.url\)/);
    assert.equal((await world.read(namespace, 'by-object'))?.status?.phase, 'Succeeded');
  });

  it('ends with ResourceExists beside the retry of its DataVolume, which goes on', async () => {
    const slow = await startFileServer({ path: await images.as('qcow2') });
    try {
      const manifest = dataVolume(namespace, 'beside', { url: slow.url });
      slow.setStatus(404);
      assert.equal((await rejection((await start(manifest, 'beside')).result())).type, 'SourceNotFound');
      slow.setStatus(undefined);
      slow.setRate(1024 * 1024);
      await world.annotate(namespace, 'beside', { 'dvflow.io/retry': 'one' });
      await eventually('the retry moves bytes', 30_000, async () =>
        (await world.read(namespace, 'beside'))?.status?.phase === 'ImportInProgress' ? true : undefined,
      );
      const failure = await rejection((await start(manifest, 'beside')).result());
      assert.equal(failure.type, 'ResourceExists');
      assert.match(failure.message, new RegExp(`is served by workflow datavolume/${namespace}/beside/`));
      slow.setRate(undefined);
      await world.awaitPhase(namespace, 'beside', 'Succeeded', 60_000);
    } finally {
      await slow.close();
    }
  });

  it('a failure reaches the program with its type', async () => {
    const handle = await startImport(
      stack.temporal,
      dataVolume(namespace, 'not-there', { url: `${server.url}-not-there` }),
    );
    const error: unknown = await handle.result().catch((failure: unknown) => failure);
    assert.equal(failureOf(error)?.type, 'SourceNotFound');
  });

  it('ignores a forged mark: an ordinary workflow runs', async () => {
    // Only dvflow and Temporal's users may set it; the policy refuses everybody else, the administrator included.
    await assert.rejects(
      world.createImport(
        namespace,
        'forged',
        { url: server.url },
        {},
        { 'dvflow.io/workflow-id': 'by-object' },
      ),
      (error: { code?: number; body?: string }) => error.code === 403 || /dvflow\.io/.test(error.body ?? ''),
    );
    const forged = dataVolume(
      namespace,
      'forged',
      { url: server.url },
      {},
      { 'dvflow.io/workflow-id': 'no-such-workflow' },
    );
    await stack.kubectl(['create', '-f', '-'], {
      input: JSON.stringify(forged),
      as: 'dvflow:temporal:default',
    });
    await world.awaitPhase(namespace, 'forged', 'Succeeded', 30_000);
  });

  async function runsOf(uid: string): Promise<{ workflows: readonly string[] }> {
    return await eventually('visibility', 30_000, async () => {
      const workflows: string[] = [];
      for await (const run of stack.temporal.workflow.list({ query: `DataVolumeUid = '${uid}'` }))
        workflows.push(run.workflowId);
      return workflows.length > 0 ? { workflows } : undefined;
    });
  }
});
