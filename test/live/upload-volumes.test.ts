import assert from 'node:assert/strict';
import { cancel, createLocalBlockVolume, deleteLocalBlockVolume } from '../../client/index.js';
import { useStack } from '../support/stack.js';
import { recordHistory } from './record.js';
import { BLOCK, TRANSFERS, useScratchScene } from './scratch-scene.js';
import { createUploads, workflowOf, type Uploads } from './uploads.js';
import { assertSameDisk, eventually } from './world.js';

const MiB = 1 << 20;

describe('upload into volumes that somebody made, and with scratch space', function () {
  this.timeout(240_000);
  const stack = useStack();
  const scene = useScratchScene(stack, 'upload-volumes');
  let uploads: Uploads;

  before(async () => {
    uploads = createUploads(stack, scene.world);
    await stack.kubectl(['apply', '-f', 'deploy/examples/storage-class-local.yaml']);
  });

  const ready = async (name: string, spec: object = {}, annotations = {}) => {
    await uploads.create(scene.namespace, name, spec, annotations);
    return await scene.world.awaitPhase(scene.namespace, name, 'UploadReady', 60_000);
  };

  for (const form of ['raw', 'qcow2', 'raw.gz'])
    it(`fills a block volume from a ${form}`, async function () {
      if (process.getuid?.() !== 0) return this.skip();
      const name = `block-${form.replace('.', '-')}`;
      const input = { name, node: stack.info.node, size: '64Mi' };
      const device = await (await createLocalBlockVolume(stack.temporal, input)).result();
      const made = await ready(name, BLOCK);
      const answer = await uploads.sendFile(workflowOf(made), await scene.images.as(form));
      assert.equal(answer.status, 200, answer.text);
      await scene.world.awaitPhase(scene.namespace, name, 'Succeeded', 60_000);
      await assertSameDisk(scene.images.raw, 'raw', device.path);
      const claim = await scene.world.claim(scene.namespace, name);
      assert.deepEqual([claim?.spec?.volumeName, claim?.spec?.volumeMode], [name, 'Block']);
      if (form === 'qcow2') await recordHistory(stack, workflowOf(made), 'uploadDataVolume.succeeded.block');
      await scene.world.remove(scene.namespace, name);
      await eventually('the claim gone', 60_000, async () =>
        (await scene.world.claim(scene.namespace, name)) === undefined ? true : undefined,
      );
      await (await deleteLocalBlockVolume(stack.temporal, { name })).result();
    });

  it('tells a client whose file needs scratch space that there is none, and takes another file', async () => {
    const made = await ready('none');
    await scene.configure('ceph');
    try {
      const answer = await uploads.sendFile(workflowOf(made), await scene.images.as('vmdk.gz'));
      assert.equal(answer.status, 422, answer.text);
      assert.match(answer.text, /"type":"ScratchSpaceRequired".*StorageClass \\"ceph\\"/);
    } finally {
      await scene.configure(null);
    }
    const answer = await uploads.sendFile(workflowOf(made), await scene.images.as('raw.gz'));
    assert.equal(answer.status, 200, answer.text);
    await scene.world.awaitPhase(scene.namespace, 'none', 'Succeeded', 60_000);
    await scene.assertOnlyTheDisk('none');
    await recordHistory(stack, workflowOf(made), 'uploadDataVolume.succeeded.no-scratch');
  });

  it('cancelled while a file is kept in scratch space: nothing left', async () => {
    const made = await ready('kept', {}, { 'dvflow.io/upload-spool': 'true' });
    const sending = await uploads.beginFile(workflowOf(made), scene.images.raw, { bytesPerSecond: 4 * MiB });
    await eventually('the scratch claim, and bytes', 60_000, async () =>
      (await scene.scratchOf(made)) && sending.bytesSent() > 4 * MiB ? true : undefined,
    );
    assert.equal(scene.seen[0]?.metadata?.namespace, TRANSFERS);
    await cancel(stack.temporal, workflowOf(made));
    await scene.world.awaitPhase(scene.namespace, 'kept', 'Failed', 60_000);
    await scene.world.assertUnchanged(scene.inventory, 60_000);
    await recordHistory(stack, workflowOf(made), 'uploadDataVolume.cancelled.scratch');
  });
});
