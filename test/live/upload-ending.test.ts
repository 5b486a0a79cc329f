import assert from 'node:assert/strict';
import { cancel } from '../../client/index.js';
import type { ProcessName } from '../../local/index.js';
import { chosen, itIf } from '../support/breadth.js';
import { useStack } from '../support/stack.js';
import { holdBinding, type Held } from './holding.js';
import { makeImages, type Images } from './images.js';
import { killAndRestart } from './killing.js';
import { recordHistory } from './record.js';
import { createUploads, workflowOf, type Uploads } from './uploads.js';
import { assertSameDisk, createWorld, eventually, type DataVolume, type World } from './world.js';

const MiB = 1 << 20;
const SLOW = 6 * MiB;

describe('how an upload ends', function () {
  this.timeout(240_000);
  const stack = useStack();
  let world: World;
  let uploads: Uploads;
  let images: Images;
  let namespace: string;
  let inventory: readonly string[];

  before(async () => {
    world = createWorld(stack);
    uploads = createUploads(stack, world);
    images = await makeImages({ sizeMiB: 96, dataMiB: 80 });
    namespace = await world.createNamespace('upload-ending');
  });
  beforeEach(async () => {
    inventory = await world.inventory();
  });
  after(() => images.remove());

  const storage = { resources: { requests: { storage: '128Mi' } }, storageClassName: 'hostpath-provisioner' };

  async function ready(name: string, annotations = {}): Promise<DataVolume> {
    await uploads.create(namespace, name, { storage }, annotations);
    return await world.awaitPhase(namespace, name, 'UploadReady', 60_000);
  }

  /** An upload of which some has come, as slowly as it may. */
  async function halfWay(name: string, form = 'raw', annotations = {}) {
    const made = await ready(name, annotations);
    const path = await images.as(form);
    const sending = await uploads.beginFile(workflowOf(made), path, {
      bytesPerSecond: SLOW,
      resumable: true,
    });
    await eventually('bytes', 60_000, async () => (sending.bytesSent() > 24 * MiB ? true : undefined));
    return { made, sending, path };
  }

  const steps: Record<string, (name: string) => Promise<Held>> = {
    'while nobody has come': async (name) => ({ made: await ready(name) }),
    'while bytes come': async (name) => ({ made: (await halfWay(name)).made }),
    'while offered to its claim': async (name) =>
      await holdBinding({ stack, world }, name, async () => {
        const made = await ready(name);
        // answered when the disk is complete
        const { status } = await uploads.sendFile(workflowOf(made), await images.as('raw'));
        assert.equal(status, 200);
        return made;
      }),
  };
  for (const [index, [step, hold]] of Object.entries(steps).entries()) {
    const isEven = index % 2 === 0;
    const slug = step.replaceAll(' ', '-');
    itIf(isEven)(`cancelled ${step}: Failed, reason Cancelled, nothing left`, async () => {
      const name = `cancelled-${slug}`;
      const { made, release } = await hold(name);
      try {
        await cancel(stack.temporal, workflowOf(made));
        const failed = await world.awaitPhase(namespace, name, 'Failed', 60_000);
        const running = failed.status?.conditions?.find(({ type }) => type === 'Running');
        assert.deepEqual([running?.reason, running?.message], ['Cancelled', 'the upload was cancelled']);
      } finally {
        await release?.();
      }
      await world.assertUnchanged(inventory);
      await recordHistory(stack, workflowOf(made), `uploadDataVolume.cancelled.${step.split(' ')[1]}`);
    });

    itIf(!isEven)(`deleted ${step}: nothing left`, async () => {
      const { release } = await hold(`deleted-${slug}`);
      try {
        await world.remove(namespace, `deleted-${slug}`);
      } finally {
        await release?.();
      }
      await world.assertUnchanged(inventory, 60_000);
    });
  }

  it('fails when its claim is deleted, and says so', async () => {
    const made = await ready('claim-lost');
    await world.core.deleteNamespacedPersistentVolumeClaim({ namespace, name: 'claim-lost' });
    const failed = await world.awaitPhase(namespace, 'claim-lost', 'Failed', 60_000);
    assert.equal(failed.status?.conditions?.find(({ type }) => type === 'Running')?.reason, 'ClaimLost');
    await world.assertUnchanged(inventory);
    await recordHistory(stack, workflowOf(made), 'uploadDataVolume.failed.claim-lost');
  });

  it('fails at once when its claim is deleted while bytes come, and its client is not told otherwise', async () => {
    const { made, sending } = await halfWay('claim-lost-midway');
    await world.core.deleteNamespacedPersistentVolumeClaim({ namespace, name: 'claim-lost-midway' });
    const failed = await world.awaitPhase(namespace, 'claim-lost-midway', 'Failed', 60_000);
    assert.equal(failed.status?.conditions?.find(({ type }) => type === 'Running')?.reason, 'ClaimLost');
    assert.ok(sending.bytesSent() < 80 * MiB, `${sending.bytesSent()} bytes were sent`);
    const status = await sending.answered.then((answer) => answer.status).catch(() => undefined);
    assert.notEqual(status, 200);
    await world.assertUnchanged(inventory);
    await recordHistory(stack, workflowOf(made), 'uploadDataVolume.failed.claim-lost-in-reception');
  });

  const kills: readonly (readonly [ProcessName, string, boolean])[] = [
    ['worker-node', 'raw', false],
    ['worker-node', 'qcow2', true],
    ['worker-control', 'raw', false],
    ['kube-apiserver', 'raw', false],
    ['temporal', 'qcow2', false],
  ];
  // only the node worker moves bytes; what the others' end costs a workflow is told by imports
  for (const [victim, form, spool] of chosen(kills, (_, index) => index === 0)) {
    const kept = spool ? ' that is spooled' : '';
    it(`survives kill -9 of ${victim}, uploading a ${form}${kept}, and goes on where it can`, async () => {
      const name = `killed-${victim}-${form}`;
      const { made, sending, path } = await halfWay(
        name,
        form,
        spool ? { 'dvflow.io/upload-spool': 'true' } : {},
      );
      // a record every five seconds says what is durable
      await eventually('more', 60_000, async () => (sending.bytesSent() > 56 * MiB ? true : undefined));
      const attempts = await killAndRestart(stack.info, victim);
      if (victim !== 'worker-node') sending.hurry();
      const answer = await sending.answered.catch((error: unknown) => {
        if (attempts.most === 0) throw error;
        return undefined;
      });
      if (attempts.least > 0) assert.equal(answer, undefined, 'the node that is dead has answered');
      let status = answer?.status;
      let sent = sending.bytesSent();
      if (status !== 200 && attempts.most > 0) {
        const again = await eventually('a place to go on', 60_000, async () => {
          return await uploads
            .beginFile(workflowOf(made), path, { ...sending.request, bytesPerSecond: 1024 * MiB })
            .catch(() => undefined);
        });
        status = (await again.answered).status;
        sent += again.bytesSent();
      }
      assert.equal(status, 200);
      await world.awaitPhase(namespace, name, 'Succeeded', 120_000);
      await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, name));
      const { length = 0 } = sending.request;
      console.log(`        ${sent} bytes sent of ${length} (${((100 * sent) / length).toFixed(1)} %)`);
      if (attempts.most === 0) assert.equal(sent, length);
      else assert.ok(sent < length * 1.5, `${sent} of ${length}`);
      if (spool) await recordHistory(stack, workflowOf(made), 'uploadDataVolume.resumed.spool');
      else if (victim === 'worker-node')
        await recordHistory(stack, workflowOf(made), 'uploadDataVolume.resumed');
    });
  }
});
