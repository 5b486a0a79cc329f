import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { WorkflowFailedError } from '@temporalio/client';
import { failureOf, startBlank } from '../../client/index.js';
import { useStack } from '../support/stack.js';
import { createBlanks, MiB, WAITS_FOR_CONSUMER, type Blanks } from './blank-scene.js';
import { recordHistory } from './record.js';
import { createWorld, dataVolume, eventually, type World } from './world.js';

const BLANK = { source: { blank: {} } };

describe('a blank disk, end to end', function () {
  this.timeout(180_000);
  const stack = useStack();
  let world: World;
  let blanks: Blanks;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    blanks = createBlanks(stack, world, () => namespace);
    namespace = await world.createNamespace('blank');
  });

  it('is sparse and of the usable size, goes through the phases of an import, and is Bound last', async () => {
    const phases: string[] = [];
    const seen: string[] = [];
    const watched = await stack.watch(
      `/apis/cdi.kubevirt.io/v1beta1/namespaces/${namespace}/datavolumes`,
      (_, object) => {
        const { status } = object as { status?: { phase?: string } };
        if (status?.phase && phases.at(-1) !== status.phase) phases.push(status.phase);
      },
    );
    const claims = await stack.watch(
      `/api/v1/namespaces/${namespace}/persistentvolumeclaims`,
      (_, object) => {
        const claim = object as { status?: { phase?: string } };
        if (seen.at(-1) !== claim.status?.phase) seen.push(claim.status?.phase ?? '');
      },
    );
    const made = await blanks.create('sparse', blanks.pvc('500Mi'));
    const done = await world.awaitPhase(namespace, 'sparse', 'Succeeded', 30_000);
    // the phase is written before its event
    await blanks.awaitClosed(made);
    await eventually('the watch has seen it', 30_000, async () =>
      phases.at(-1) === 'Succeeded' && seen.at(-1) === 'Bound' ? true : undefined,
    );
    watched.stop();
    claims.stop();
    assert.deepEqual(phases, ['Pending', 'ImportScheduled', 'ImportInProgress', 'Succeeded']);
    assert.deepEqual(seen, ['Pending', 'Bound']);
    // floor_1Mi(ceil(524288000 / 1.06)) = 471 MiB (cdi.md §2.10)
    const { size, allocated } = await blanks.sizesOf('sparse');
    assert.equal(size, 471 * MiB);
    assert.ok(allocated < MiB, `${allocated} bytes are allocated`);
    const disk = await world.diskOf(namespace, 'sparse');
    const told = execFileSync('qemu-img', ['info', '-f', 'raw', '--output', 'json', disk], {
      encoding: 'utf8',
    });
    assert.equal((JSON.parse(told) as { 'virtual-size': number })['virtual-size'], 471 * MiB);
    assert.equal(done.status?.progress, '100.0%');
    assert.deepEqual(
      done.status?.conditions?.map(({ type, status, reason, message }) => [type, status, reason, message]),
      [
        ['Bound', 'True', 'Bound', 'PVC sparse Bound'],
        ['Running', 'False', 'Completed', 'Import Complete'],
        ['Ready', 'True', '', ''],
      ],
    );
    const reasons = (await world.events(namespace, 'sparse')).map(({ reason }) => reason);
    for (const reason of ['ImportScheduled', 'ImportInProgress', 'ImportSucceeded'])
      assert.ok(reasons.includes(reason), reasons.join(' '));
    assert.deepEqual(await marksOf('sparse'), []);
    await recordHistory(stack, blanks.idOf(made), 'blankDataVolume.succeeded');
  });

  it('takes its room at once where preallocation is asked for, and its claim says so', async () => {
    const made = await blanks.create('preallocated', { preallocation: true });
    await world.awaitPhase(namespace, 'preallocated', 'Succeeded', 30_000);
    const { size, allocated } = await blanks.sizesOf('preallocated');
    assert.equal(size, 64 * MiB);
    assert.ok(allocated >= size, `${allocated} of ${size} bytes are allocated`);
    assert.deepEqual(await preallocationOf('preallocated'), { asked: 'true', applied: 'true' });
    await blanks.awaitClosed(made);
    await recordHistory(stack, blanks.idOf(made), 'blankDataVolume.succeeded.preallocated');
  });

  it('is preallocated by the default of CDIConfig, unless its DataVolume says otherwise', async () => {
    const configure = (preallocation: boolean | null) =>
      stack.kubectl([
        ...['patch', 'cdiconfig', 'config', '--type=merge', '-p'],
        JSON.stringify({ spec: { preallocation } }),
      ]);
    await configure(true);
    try {
      await blanks.create('by-default');
      await blanks.create('otherwise', { preallocation: false });
      await world.awaitPhase(namespace, 'by-default', 'Succeeded', 30_000);
      await world.awaitPhase(namespace, 'otherwise', 'Succeeded', 30_000);
    } finally {
      await configure(null);
    }
    const [full, sparse] = await Promise.all(['by-default', 'otherwise'].map(blanks.sizesOf));
    assert.ok(full!.allocated >= 64 * MiB);
    assert.ok(sparse!.allocated < MiB);
    assert.deepEqual(await preallocationOf('by-default'), { asked: 'true', applied: 'true' });
    assert.deepEqual(await preallocationOf('otherwise'), { asked: 'false', applied: undefined });
  });

  it('is made where the scheduler puts the first pod that uses the claim', async () => {
    const made = await blanks.create('consumed', {}, WAITS_FOR_CONSUMER);
    await world.awaitPhase(namespace, 'consumed', 'WaitForFirstConsumer', 20_000);
    assert.equal((await world.claim(namespace, 'consumed'))?.status?.phase, 'Pending');
    await world.core.createNamespacedPod({
      namespace,
      body: {
        metadata: { name: 'consumer' },
        spec: {
          containers: [{ name: 'qemu', image: 'none', volumeMounts: [{ name: 'disk', mountPath: '/disk' }] }],
          volumes: [{ name: 'disk', persistentVolumeClaim: { claimName: 'consumed' } }],
        },
      },
    });
    await world.awaitPhase(namespace, 'consumed', 'Succeeded', 60_000);
    await blanks.awaitClosed(made);
    await recordHistory(stack, blanks.idOf(made), 'blankDataVolume.succeeded.first-consumer');
    await world.core.deleteNamespacedPod({ namespace, name: 'consumer', gracePeriodSeconds: 0 });
  });

  it('is made by a start from Temporal, from the manifest as text, and by the typed client', async () => {
    const workflow = { taskQueue: 'dvflow', workflowId: 'blank-by-text' };
    const text = JSON.stringify(dataVolume(namespace, 'by-text', {}, BLANK));
    const result: unknown = await stack.temporal.workflow.execute('blankDataVolume', {
      ...workflow,
      args: [text],
    });
    const { volume, ...rest } = result as { volume: string; node: string };
    assert.equal(volume, (await world.claim(namespace, 'by-text'))?.spec?.volumeName);
    assert.deepEqual(rest, {
      claim: { namespace, name: 'by-text' },
      node: stack.info.node,
      virtualSize: 64 * MiB,
      preallocated: false,
    });
    await recordHistory(stack, workflow.workflowId, 'blankDataVolume.succeeded.by-manifest');
    const handle = await startBlank(
      stack.temporal,
      dataVolume(namespace, 'by-client', {}, { ...BLANK, preallocation: true }),
    );
    assert.equal(handle.workflowId, `blank/${namespace}/by-client`);
    const { virtualSize, preallocated } = await handle.result();
    assert.deepEqual([virtualSize, preallocated], [64 * MiB, true]);
    assert.equal((await handle.status()).phase, 'Succeeded');
  });

  it('is no archive: refused when it is created, and by the workflow', async () => {
    const refused = { ...BLANK, contentType: 'archive' };
    await assert.rejects(
      blanks.create('archive', refused),
      /SourceType cannot be blank and the contentType be archive/,
    );
    const failure = await failureOfStart('blankDataVolume', dataVolume(namespace, 'archive', {}, refused));
    assert.equal(failure.type, 'ContentTypeNotSupported');
    assert.match(failure.message, /contentType archive is not supported for source blank/);
    assert.equal(await world.read(namespace, 'archive'), undefined);
    await recordHistory(stack, 'refused-archive', 'blankDataVolume.failed');
  });

  it('is not mixed up with an import: each workflow names the one that serves the other source', async () => {
    const http = { http: { url: 'http://127.0.0.1:1/disk.img' } };
    const cases = [
      ['importDataVolume', BLANK, /spec.source.blank is served by workflow blankDataVolume/],
      ['blankDataVolume', { source: http }, /spec.source.http is served by workflow importDataVolume/],
    ] as const;
    for (const [type, spec, message] of cases) {
      const failure = await failureOfStart(type, dataVolume(namespace, 'mixed', {}, spec));
      assert.equal(failure.type, 'UnsupportedSource');
      assert.match(failure.message, message);
    }
    assert.equal(await world.read(namespace, 'mixed'), undefined);
  });

  it('fails at once where its class offers no Block volume', async () => {
    await blanks.create('block', blanks.pvc('64Mi', { volumeMode: 'Block' }));
    const failed = await world.awaitPhase(namespace, 'block', 'Failed', 30_000);
    assert.equal(
      failed.status?.conditions?.find(({ type }) => type === 'Running')?.reason,
      'IncompatiblePVC',
    );
  });

  async function failureOfStart(type: string, manifest: object): Promise<{ type: string; message: string }> {
    const { metadata } = manifest as { metadata: { name: string } };
    const handle = await stack.temporal.workflow.start(type, {
      taskQueue: 'dvflow',
      workflowId: `refused-${metadata.name}`,
      args: [manifest],
    });
    const error = await handle.result().then(
      () => assert.fail('succeeded'),
      (failure: unknown) => failure,
    );
    assert.ok(error instanceof WorkflowFailedError, String(error));
    return failureOf(error);
  }

  async function preallocationOf(name: string): Promise<{ asked?: string; applied?: string }> {
    const { annotations = {} } = (await world.claim(namespace, name))!.metadata!;
    return {
      asked: annotations['cdi.kubevirt.io/storage.preallocation.requested']!,
      applied: annotations['cdi.kubevirt.io/storage.preallocation']!,
    };
  }

  async function marksOf(name: string): Promise<readonly string[]> {
    const { labels, annotations } = (await world.claim(namespace, name))!.metadata!;
    return Object.keys({ ...labels, ...annotations }).filter((key) => key.startsWith('dvflow.io/'));
  }
});
