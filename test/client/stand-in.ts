import {
  ApplicationFailure,
  condition,
  continueAsNew,
  defineSignal,
  proxyActivities,
  setHandler,
} from '@temporalio/workflow';
import type {
  DataVolumeManifest,
  ImportResult,
  LifecycleStatus,
  TransferProgress,
} from '../../activities/types.js';
import { statusQuery } from '../../workflows/messages.js';

/** How the stand-in ends: with a result, with a failure of a type, or as a run that goes on as another. */
interface End {
  readonly type?: string;
  readonly message?: string;
  readonly renew?: boolean;
}

/** Ends the stand-in. */
export const endSignal = defineSignal<[End]>('end');

const { transferImage } = proxyActivities<{ transferImage(progress: TransferProgress): Promise<void> }>({
  startToCloseTimeout: '1m',
  heartbeatTimeout: '10s',
  retry: { initialInterval: '100ms' },
});

/** What the client needs of a lifecycle: the query, a transfer that heartbeats, an end. */
export async function importDataVolume(manifest: DataVolumeManifest): Promise<ImportResult | undefined> {
  const { name = '', namespace = 'default' } = manifest.metadata;
  if (name === 'finished') return undefined;
  let end: End | undefined;
  const facts: LifecycleStatus = {
    namespace,
    name,
    phase: 'ImportInProgress',
    step: 'transferring the image',
    conditions: [],
  };
  setHandler(statusQuery, () => facts);
  setHandler(endSignal, (how) => {
    end = how;
  });
  const progress = {
    phase: 'transferring',
    bytesRead: 1024,
    bytesWritten: 2048,
    rate: 512,
    attempt: 1,
    barren: 0,
  } as const;
  await transferImage(progress);
  await condition(() => end !== undefined);
  if (end?.renew) await continueAsNew<typeof importDataVolume>(manifest);
  if (end?.type)
    throw ApplicationFailure.create({ type: end.type, message: end.message ?? '', nonRetryable: true });
  return { claim: { namespace, name }, volume: `pvc-of-${name}` };
}

/** A clone, as its client sees it. */
export const cloneDataVolume = importDataVolume;
