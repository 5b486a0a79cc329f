import {
  ApplicationFailure,
  condition,
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

/** Ends the stand-in: with a result, or with a failure of a type. */
export const endSignal = defineSignal<[{ type?: string; message?: string }]>('end');

const { transferImage } = proxyActivities<{ transferImage(progress: TransferProgress): Promise<void> }>({
  startToCloseTimeout: '1m',
  heartbeatTimeout: '10s',
  retry: { initialInterval: '100ms' },
});

/** What the client needs of a lifecycle: the query, a transfer that heartbeats, an end. */
export async function importDataVolume(manifest: DataVolumeManifest): Promise<ImportResult | undefined> {
  const { name = '', namespace = 'default' } = manifest.metadata;
  if (name === 'finished') return undefined;
  let end: { type?: string; message?: string } | undefined;
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
  if (end?.type)
    throw ApplicationFailure.create({ type: end.type, message: end.message ?? '', nonRetryable: true });
  return { claim: { namespace, name }, volume: `pvc-of-${name}` };
}

/** A clone, as its client sees it. */
export const cloneDataVolume = importDataVolume;
