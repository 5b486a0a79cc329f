import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import type { WorkflowUpdateFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from './images.js';
import { recordHistory } from './record.js';
import { createUploads, workflowOf, type Uploads } from './uploads.js';
import { assertSameDisk, createWorld, eventually, type DataVolume, type World } from './world.js';

const MiB = 1 << 20;

describe('upload', function () {
  this.timeout(240_000);
  const stack = useStack();
  let world: World;
  let uploads: Uploads;
  let images: Images;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    uploads = createUploads(stack, world);
    images = await makeImages({ sizeMiB: 48, dataMiB: 32 });
    namespace = await world.createNamespace('upload');
  });
  after(() => images.remove());

  async function ready(name: string, spec: object = {}, annotations = {}): Promise<DataVolume> {
    await uploads.create(namespace, name, spec, annotations);
    return await world.awaitPhase(namespace, name, 'UploadReady', 60_000);
  }
  const condition = async (name: string, type: string) =>
    (await world.read(namespace, name))?.status?.conditions?.find((one) => one.type === type);
  const refusedBy = (type: string, message: RegExp) => (error: WorkflowUpdateFailedError) => {
    assert.ok(error.cause instanceof ApplicationFailure, String(error));
    assert.equal(error.cause.type, type);
    assert.match(error.cause.message, message);
    return true;
  };

  it('goes through the phases of CDI, and the claim is Bound when the disk is complete', async () => {
    const before = await world.inventory();
    const made = await ready('phases');
    // the phase is written before the claim's annotations
    const claim = await world.awaitAnnotation(
      namespace,
      'phases',
      'cdi.kubevirt.io/storage.pod.ready',
      'true',
    );
    assert.equal(claim.status?.phase, 'Pending');
    const annotations = claim.metadata?.annotations ?? {};
    assert.equal(annotations['cdi.kubevirt.io/storage.pod.phase'], 'Running');
    assert.equal(annotations['cdi.kubevirt.io/storage.upload.target'], '');
    assert.equal(annotations['cdi.kubevirt.io/storage.contentType'], 'kubevirt');
    const running = await condition('phases', 'Running');
    assert.deepEqual([running?.status, running?.reason], ['True', 'Pod is running']);
    const answer = await uploads.sendFile(workflowOf(made), await images.as('qcow2'));
    assert.equal(answer.status, 200, answer.text);
    assert.equal((JSON.parse(answer.text) as { virtualSize: number }).virtualSize, images.virtualSize);
    const done = await world.awaitPhase(namespace, 'phases', 'Succeeded', 30_000);
    // the phase is written before the annotation, the event, and the end of the mark on the node
    await stack.temporal.workflow.getHandle(workflowOf(made)).result();
    assert.equal(done.status?.progress, '100.0%');
    assert.equal((await condition('phases', 'Running'))?.message, 'Upload Complete');
    assert.equal(
      (await world.claim(namespace, 'phases'))?.metadata?.annotations?.['cdi.kubevirt.io/storage.pod.phase'],
      'Succeeded',
    );
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'phases'));
    const reasons = (await world.events(namespace, 'phases')).map(({ reason }) => reason);
    for (const reason of ['UploadScheduled', 'UploadReady', 'UploadSucceeded'])
      assert.ok(reasons.includes(reason), reasons.join());
    const kept = (await world.inventory()).filter((entry) => !before.includes(entry));
    const own = /\/phases$|^volume pvc-|^pool pvc-[\w-]+(\/disk\.img)?$|^pool \.dvflow\/promises\/[\w-]+$/;
    assert.deepEqual(
      kept.filter((entry) => !own.test(entry)),
      [],
    );
    await recordHistory(stack, workflowOf(made), 'uploadDataVolume.succeeded');
  });

  it('opens nothing before the first byte comes: no process, and no transfer slot', async () => {
    const names = ['idle-1', 'idle-2', 'idle-3', 'idle-4'];
    const made = await Promise.all(names.map((name) => ready(name)));
    for (const one of made) {
      const description = await stack.temporal.workflow.getHandle(workflowOf(one)).describe();
      const pending = (description.raw.pendingActivities ?? []).map(({ activityType }) => activityType?.name);
      assert.equal(pending.includes('receiveUpload'), false, pending.join());
    }
    const [last] = made.slice(-1);
    const answer = await uploads.sendFile(workflowOf(last!), await images.as('raw.gz'));
    assert.equal(answer.status, 200, answer.text);
    await world.awaitPhase(namespace, 'idle-4', 'Succeeded', 30_000);
    for (const name of names.slice(0, 3)) await world.remove(namespace, name);
  });

  it('stays open for another try after a client that vanished, one with less, and one with rubbish; and says why', async () => {
    const made = await ready('tries');
    const workflowId = workflowOf(made);
    const vanishing = await uploads.beginFile(workflowId, images.raw, { bytesPerSecond: 8 * MiB });
    await eventually('bytes', 30_000, async () => (vanishing.bytesSent() > 4 * MiB ? true : undefined));
    vanishing.vanish();
    await eventually('the reason on the DataVolume', 30_000, async () =>
      /connection of the client broke off/.test((await condition('tries', 'Running'))?.message ?? '')
        ? true
        : undefined,
    );
    const session = randomUUID();
    const { url } = await uploads.open(workflowId, { session, contentType: 'kubevirt', length: 48 * MiB });
    const short = await uploads.put(url, { session }, Buffer.alloc(MiB, 7));
    assert.deepEqual([short.status, /"type":"SourceUnavailable"/.test(short.text)], [408, true], short.text);
    const qcow2 = await readFile(await images.as('qcow2'));
    const again = randomUUID();
    const half = qcow2.subarray(0, qcow2.length / 2);
    const rubbish = await uploads.open(workflowId, {
      session: again,
      contentType: 'kubevirt',
      length: half.length,
    });
    const refused = await uploads.put(rubbish.url, { session: again }, half);
    assert.equal(refused.status, 422);
    assert.match(refused.text, /"type":"ImageInvalid".*"retryable":false/);
    await eventually('the reason on the DataVolume', 30_000, async () =>
      /cut short/.test((await condition('tries', 'Running'))?.message ?? '') ? true : undefined,
    );
    assert.equal((await world.read(namespace, 'tries'))?.status?.phase, 'UploadReady');
    // for longer than the reason is waited for
    const last = await uploads.beginFile(workflowId, images.raw, { bytesPerSecond: 2 * MiB });
    await eventually('a reason that is taken back', 20_000, async () =>
      last.bytesSent() > 0 && (await condition('tries', 'Running'))?.message === '' ? true : undefined,
    );
    last.hurry();
    const answer = await last.answered;
    assert.equal(answer.status, 200, answer.text);
    await world.awaitPhase(namespace, 'tries', 'Succeeded', 30_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'tries'));
    const failed = (await world.events(namespace, 'tries')).filter(({ reason }) => reason === 'UploadFailed');
    assert.equal(failed.length, 1, 'one event, which counts');
    assert.ok(failed.every(({ type }) => type === 'Warning'));
    await recordHistory(stack, workflowId, 'uploadDataVolume.succeeded.taken-back');
  });

  it('refuses a second client while one sends, and everybody when the disk is complete', async () => {
    const made = await ready('two');
    const workflowId = workflowOf(made);
    const first = await uploads.beginFile(workflowId, images.raw, { bytesPerSecond: 8 * MiB });
    await eventually('bytes', 30_000, async () => (first.bytesSent() > 4 * MiB ? true : undefined));
    const other = { session: randomUUID(), contentType: 'kubevirt', length: 5 } as const;
    await assert.rejects(uploads.open(workflowId, other), refusedBy('UploadInProgress', /another client/));
    const second = await uploads.put(
      (await uploads.open(workflowId, first.request)).url,
      { session: first.request.session },
      Buffer.from('x'),
    );
    assert.equal(second.status, 409);
    first.hurry();
    const answer = await first.answered;
    assert.equal(answer.status, 200, answer.text);
    await assert.rejects(uploads.open(workflowId, other));
    await world.awaitPhase(namespace, 'two', 'Succeeded', 30_000);
    await assert.rejects(uploads.open(workflowId, other));
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'two'));
  });

  it('lets another client take the place of one that is not there any more', async () => {
    const made = await ready('replaced');
    const workflowId = workflowOf(made);
    const lost = await uploads.beginFile(workflowId, images.raw, {
      bytesPerSecond: 8 * MiB,
      resumable: true,
    });
    await eventually('bytes', 30_000, async () => (lost.bytesSent() > 4 * MiB ? true : undefined));
    lost.vanish();
    // its session lingers for a minute; nobody has to wait for it
    const began = Date.now();
    const answer = await eventually('its turn', 30_000, async () => {
      return await uploads.sendFile(workflowId, images.raw).catch(() => undefined);
    });
    assert.equal(answer.status, 200, answer.text);
    assert.ok(Date.now() - began < 30_000);
    await world.awaitPhase(namespace, 'replaced', 'Succeeded', 30_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'replaced'));
    await recordHistory(stack, workflowId, 'uploadDataVolume.succeeded.replaced');
  });

  it('refuses what is no request, before it is in any history', async () => {
    const made = await ready('malformed');
    const good = { session: 'a', contentType: 'kubevirt' } as const;
    const rows: readonly (readonly [object, RegExp])[] = [
      [{ session: '../../etc' }, /session is/],
      [{ length: -1 }, /length is/],
      [{ checksum: 'sha256' }, /checksum is/],
      [{ contentType: 'other' }, /contentType is/],
    ];
    for (const [wrong, message] of rows)
      await assert.rejects(
        uploads.open(workflowOf(made), { ...good, ...wrong }),
        refusedBy('InvalidDataVolume', message),
      );
    await assert.rejects(
      uploads.open(workflowOf(made), { ...good, contentType: 'archive' }),
      refusedBy('ContentTypeNotSupported', /contentType is kubevirt, not archive/),
    );
    await world.remove(namespace, 'malformed');
  });

  it('gets scratch space for a format that cannot be streamed, and none for one that can', async () => {
    const made = await ready('scratch', { storage: storageOf('128Mi') });
    const answer = await uploads.sendFile(workflowOf(made), await images.as('vmdk'));
    assert.equal(answer.status, 200, answer.text);
    await world.awaitPhase(namespace, 'scratch', 'Succeeded', 60_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'scratch'));
    const reasons = (await world.events(namespace, 'scratch')).map(({ reason }) => reason);
    assert.ok(reasons.includes('CreatingScratchSpace'), reasons.join());
    assert.equal(reasons.includes('UploadFailed'), false, reasons.join());
    // Kubernetes takes its protection off a claim in its own time
    let left: readonly string[] = [];
    await eventually(
      'no scratch space',
      30_000,
      async () => {
        left = (await world.inventory()).filter((entry) => /scratch/.test(entry) && /prime/.test(entry));
        return left.length === 0 ? true : undefined;
      },
      async () => left.join('\n'),
    );
    const others = (await world.events(namespace, 'phases')).map(({ reason }) => reason);
    assert.equal(others.includes('CreatingScratchSpace'), false);
    await recordHistory(stack, workflowOf(made), 'uploadDataVolume.succeeded.scratch');
  });

  it('unpacks an archive, and refuses it for a Block volume', async () => {
    const { execFileSync } = await import('node:child_process');
    const archive = `${images.directory}/etc.tar`;
    execFileSync('tar', ['-C', '/etc', '-cf', archive, 'hostname', 'passwd']);
    const made = await ready('archive', { contentType: 'archive' });
    const answer = await uploads.sendFile(workflowOf(made), archive, { contentType: 'archive' });
    assert.equal(answer.status, 200, answer.text);
    await world.awaitPhase(namespace, 'archive', 'Succeeded', 30_000);
    const directory = (await world.diskOf(namespace, 'archive')).replace(/disk\.img$/, '');
    assert.equal(await readFile(`${directory}passwd`, 'utf8'), await readFile('/etc/passwd', 'utf8'));
    await uploads.create(namespace, 'archive-block', {
      contentType: 'archive',
      pvc: {
        accessModes: ['ReadWriteOnce'],
        volumeMode: 'Block',
        resources: { requests: { storage: '64Mi' } },
      },
      storage: undefined,
    });
    const failed = await world.awaitPhase(namespace, 'archive-block', 'Failed', 30_000);
    assert.equal(
      failed.status?.conditions?.find(({ type }) => type === 'Running')?.reason,
      'ContentTypeNotSupported',
    );
    await recordHistory(stack, workflowOf(failed), 'uploadDataVolume.failed.archive');
  });

  it('is as large as its claim, and says what a larger file needs', async () => {
    const made = await ready('large', { storage: storageOf('16Mi') });
    const answer = await uploads.sendFile(workflowOf(made), images.raw);
    assert.equal(answer.status, 413);
    assert.match(
      answer.text,
      /"type":"LargerPVCRequired","message":"image needs .* bytes, claim upload-\w+\/large offers/,
    );
    assert.equal((await world.read(namespace, 'large'))?.status?.phase, 'UploadReady');
    await world.remove(namespace, 'large');
  });

  it('stays open without a deadline until the first byte, and while bytes come; then it fails by the deadline', async () => {
    const made = await ready('deadline', {}, { 'dvflow.io/deadline': '6s' });
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    assert.equal((await world.read(namespace, 'deadline'))?.status?.phase, 'UploadReady');
    const begun = await uploads.beginFile(workflowOf(made), images.raw, { bytesPerSecond: 2 * MiB });
    await eventually('bytes', 60_000, async () => (begun.bytesSent() > 20 * MiB ? true : undefined));
    assert.equal((await world.read(namespace, 'deadline'))?.status?.phase, 'UploadReady');
    begun.vanish();
    const failed = await world.awaitPhase(namespace, 'deadline', 'Failed', 60_000);
    const running = failed.status?.conditions?.find(({ type }) => type === 'Running');
    assert.equal(running?.reason, 'DeadlineExceeded');
    assert.match(running?.message ?? '', /upload failed, send again: /);
    await recordHistory(stack, workflowOf(failed), 'uploadDataVolume.failed.deadline');
    await stat(images.raw);
  });
});

function storageOf(storage: string): object {
  return { resources: { requests: { storage } }, storageClassName: 'hostpath-provisioner' };
}
