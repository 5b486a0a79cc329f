/** How the gateway asks the workflow of a claim for the place that takes the bytes. */
import { randomUUID } from 'node:crypto';
import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import type { ImportResult } from '../../activities/types.js';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { servingWorkflow } from '../../activities/kubernetes/data-volume-facts.js';
import { findDataVolume } from '../../activities/kubernetes/data-volumes.js';
import { isOpen } from '../../activities/kubernetes/executions.js';
import { lifecycleWorkflowId } from '../../activities/kubernetes/names.js';
import type { LocatedUpload, OpenedUpload, UploadRequest } from '../../activities/types/upload.js';
import { locateUploadUpdate, openUploadUpdate } from '../../workflows/messages.js';
import { uploadClaimWorkflowId } from '../../workflows/task-queues.js';
import { UploadError } from './upload-failures.js';
import type { UploadClaim } from './upload-claims.js';

/** Has the receiving resource opened; resolves when it takes bytes. */
export type OpenUpload = (
  claim: UploadClaim,
  request: UploadRequest,
  signal: AbortSignal,
) => Promise<OpenedUpload>;

/** Asks where a session can go on; nothing is opened, and no other session ends. */
export type LocateUpload = (
  claim: UploadClaim,
  request: UploadRequest,
  signal: AbortSignal,
) => Promise<LocatedUpload>;

/** All slots of a node may be taken by other transfers: a client waits so long for one, in ms. */
const OPEN_WITHIN_MS = 5 * 60_000;

/** A node says within seconds where an upload is, or that it does not; a client that asks again is not kept waiting. In ms. */
const LOCATE_WITHIN_MS = 20_000;

/** Asks by a Temporal Update, which starts nothing. */
export function createLocateUpload(client: Client, kubernetes: Pick<Kubernetes, 'custom'>): LocateUpload {
  return async (claim, request, signal) => {
    const handle = client.workflow.getHandle(await workflowOf(kubernetes, claim));
    const timeout = AbortSignal.timeout(LOCATE_WITHIN_MS);
    try {
      return await client.connection.withAbortSignal(AbortSignal.any([signal, timeout]), async () =>
        handle.executeUpdate(locateUploadUpdate, { args: [request], updateId: randomUUID() }),
      );
    } catch (error) {
      if (!timeout.aborted) throw error;
      throw new UploadError(503, 'the node does not say how far the upload is: try again', { cause: error });
    }
  };
}

/** Asks by a Temporal Update, which starts nothing: a claim whose workflow has ended takes no upload. */
export function createOpenUpload(client: Client, kubernetes: Pick<Kubernetes, 'custom'>): OpenUpload {
  return async (claim, request, signal) => {
    const handle = client.workflow.getHandle(await workflowOf(kubernetes, claim));
    const timeout = AbortSignal.timeout(OPEN_WITHIN_MS);
    try {
      return await client.connection.withAbortSignal(AbortSignal.any([signal, timeout]), async () =>
        // one try of a client is one Update, however often the call is repeated
        handle.executeUpdate(openUploadUpdate, {
          args: [request],
          updateId: randomUUID(),
        }),
      );
    } catch (error) {
      if (!timeout.aborted) throw error;
      throw new UploadError(
        503,
        `no place to upload into within ${OPEN_WITHIN_MS / 60_000} minutes: try again`,
        {
          cause: error,
        },
      );
    }
  };
}

/** Reads in the result of the workflow whose file a finished claim holds: as long as Temporal keeps it. */
export function createFinishedSession(
  client: Client,
  kubernetes: Pick<Kubernetes, 'custom'>,
): (claim: UploadClaim) => Promise<string | undefined> {
  return async (claim) => {
    const handle = client.workflow.getHandle(await workflowOf(kubernetes, claim));
    try {
      const found = await handle.describe();
      // the claim has its disk a moment before its workflow ends
      if (isOpen(found)) throw new UploadError(503, 'the disk is complete, and being published');
      if (found.status.name !== 'COMPLETED') return undefined;
      return ((await handle.result()) as ImportResult | undefined)?.session;
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return undefined;
      throw error;
    }
  };
}

/** The claim tells until it is published; a DataVolume that was made from Temporal tells too; else it is the watch's id. */
async function workflowOf(
  { custom }: Pick<Kubernetes, 'custom'>,
  { namespace, name, uid, workflowId, dataVolumeUid }: UploadClaim,
): Promise<string> {
  if (workflowId !== undefined) return workflowId;
  if (dataVolumeUid === undefined) return uploadClaimWorkflowId({ namespace, name, uid });
  const dataVolume = await findDataVolume({ custom }, { namespace, name });
  return dataVolume
    ? servingWorkflow(dataVolume)
    : lifecycleWorkflowId({ namespace, name, uid: dataVolumeUid });
}
