import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { WorkflowUpdateFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { UploadRequest } from '../../activities/types/upload.js';
import { locateUploadUpdate } from '../../workflows/messages.js';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from '../live/images.js';
import { createUploads, workflowOf, type Uploads } from '../live/uploads.js';
import { assertSameDisk, createWorld, eventually, type World } from '../live/world.js';

const MiB = 1 << 20;

describe('an upload with a long history', function () {
  this.timeout(360_000);
  const stack = useStack();
  let world: World;
  let uploads: Uploads;
  let images: Images;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    uploads = createUploads(stack, world);
    images = await makeImages({ sizeMiB: 48, dataMiB: 32 });
    namespace = await world.createNamespace('upload-long');
  });
  after(() => images.remove());

  it('goes on in a new run, with its client, its scratch space and what has come', async () => {
    const before = await world.inventory();
    await uploads.create(namespace, 'long', {}, { 'dvflow.io/upload-spool': 'true' });
    const made = await world.awaitPhase(namespace, 'long', 'UploadReady', 60_000);
    const workflowId = workflowOf(made);
    const handle = stack.temporal.workflow.getHandle(workflowId);
    const content = readFileSync(await images.as('qcow2'));
    const length = content.length;
    const half = Math.floor(length / 2);
    const request: UploadRequest = {
      session: randomUUID(),
      contentType: 'kubevirt',
      length,
      resumable: true,
    };
    const first = await uploads.open(workflowId, request);
    const part = content.subarray(0, half);
    assert.equal((await uploads.put(first.url, { session: request.session }, part)).status, 202);
    const { runId } = await handle.describe();
    const stranger: UploadRequest = { ...request, session: randomUUID() };
    const told = new Set<string>();
    /** Asks as often as a client may, until the run is another one. */
    async function ask(): Promise<void> {
      for (let count = 0; count < 300 && (await handle.describe()).runId === runId; count += 1) {
        const answer = handle.executeUpdate(locateUploadUpdate, { args: [stranger] });
        await answer.catch((error: unknown) => {
          const cause = error instanceof WorkflowUpdateFailedError ? error.cause : undefined;
          told.add(cause instanceof ApplicationFailure ? String(cause.type) : String(error));
        });
        if (count % 20 === 0) await uploads.open(workflowId, request).catch(() => undefined);
      }
    }
    await Promise.all(Array.from({ length: 8 }, ask));
    assert.notEqual((await handle.describe()).runId, runId, 'the run has not continued as new');
    assert.equal(told.has('ResourceExists'), false, [...told].join());
    assert.equal((await world.read(namespace, 'long'))?.status?.phase, 'UploadReady');
    const again = await eventually('a place to go on', 60_000, async () =>
      uploads.open(workflowId, request).catch(() => undefined),
    );
    assert.equal(again.offset, half);
    const answer = await uploads.put(
      again.url,
      { session: request.session, offset: half },
      content.subarray(half),
    );
    assert.equal(answer.status, 200, answer.text);
    await world.awaitPhase(namespace, 'long', 'Succeeded', 60_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'long'));
    assert.ok(length > 2 * MiB);
    await world.remove(namespace, 'long');
    await world.assertUnchanged(before, 60_000);
  });
});
