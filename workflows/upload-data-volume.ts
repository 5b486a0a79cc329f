import { ContinueAsNew } from '@temporalio/workflow';
import type { CarriedUpload } from '../activities/types/upload.js';
import type { ImportResult, LifecycleInput } from '../activities/types.js';
import { continues } from './arguments.js';
import { adopt, awaitConsumer, begin, ensureClaim, planTarget } from './claim.js';
import { asStart, runLifecycle } from './lifecycle.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { reserveOnSomeNode } from './placement.js';
import { publish } from './publication.js';
import { resultOf } from './result.js';
import { prepareStaticVolume, reserveStaticVolume } from './static-volume.js';
import { createUploadDesk, type UploadDesk } from './upload-desk.js';
import { receiveDisk } from './upload.js';

/**
 * Fills a volume with what clients send (Update `openUpload`) and offers it to the claim when it is complete. Phases: CDI's upload
 * phases. Nothing is held for a client that has not come: neither a slot nor a process.
 * @throws every {@link FailureType} of the request, of the target and of time, as the `type` of an `ApplicationFailure`
 */
export async function uploadDataVolume(input: LifecycleInput): Promise<ImportResult | undefined> {
  const carried = carriedIn(input);
  // before anything else: a client may come with the first task
  let lifecycle: Lifecycle | undefined;
  const desk = createUploadDesk({
    wake: () => lifecycle?.wake(),
    step: () => lifecycle?.doing() ?? 'opening the DataVolume',
  });
  try {
    return await runLifecycle(input, (volume) => upload((lifecycle = volume), desk, carried));
  } catch (error) {
    // no end for its clients
    if (error instanceof ContinueAsNew) await desk.handOver();
    throw error;
  } finally {
    await desk.close('ResourceExists', 'the upload is over: its disk is complete, or it has failed');
  }
}

/** What the run has handed on that this one continues. @throws `InvalidDataVolume`, before any client is let in */
function carriedIn(input: LifecycleInput): CarriedUpload | undefined {
  const start = asStart(input);
  return continues() ? start?.upload : undefined;
}

async function upload(
  volume: Lifecycle,
  desk: UploadDesk,
  carried: CarriedUpload | undefined,
): Promise<ImportResult> {
  await begin(volume);
  const target = await planTarget(volume);
  if (target.claim === 'adopt') return await adopt(volume, target);
  const reserved = await reserveStaticVolume(volume, target);
  const claim = await ensureClaim(volume, target, { reserved });
  await awaitConsumer(volume, claim, target);
  // A run that continues another one's wait is ready already.
  if (volume.facts.phase !== 'UploadReady') await volume.enter('UploadScheduled');
  const directory = reserved
    ? await prepareStaticVolume(volume, { reserved, claim, target })
    : await reserveOnSomeNode(volume, { claim, target });
  volume.note({ node: directory.node });
  const { transferred, tidy, session } = await receiveDisk(
    volume,
    { claim, target, directory },
    desk,
    carried,
  );
  desk.finish(session);
  await desk.close('ResourceExists', 'the disk is complete: it is being published');
  // proved already: the client was told no sooner
  const published = await publish(volume, { claim, target, directory, transferred, tidy });
  return { ...resultOf({ claim, node: directory.node, ...published }, transferred), session };
}
