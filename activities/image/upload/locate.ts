import { findDirectory } from '../../node/directories.js';
import { openPool } from '../../node/pool.js';
import { findTransferState } from '../../node/volume-state.js';
import type { DataPort } from '../../types/data-port.js';
import type { UploadNodeActivities, UploadPlace, UploadRequest } from '../../types/upload.js';
import type { FillTarget } from '../../types.js';
import { createRecordStore } from '../resume-record.js';
import { isSameSession, type UploadDesk } from './desk.js';
import { readUploadState, resumeOffset } from './upload-state.js';

/** What is asked about uploads on one node. */
export interface LocateDependencies {
  readonly dataPort: DataPort;
  readonly desk: UploadDesk;
  readonly stateDirectory: string;
}

/** Short work about uploads on one node. */
export function createLocateActivities({
  dataPort,
  desk,
  stateDirectory,
}: LocateDependencies): UploadNodeActivities {
  /** Of a session that is being received the next byte wanted; else from where it could go on. */
  async function found(
    target: FillTarget,
    request: UploadRequest,
  ): Promise<Pick<UploadPlace, 'offset' | 'finished'>> {
    const feed = desk.get(target.dataVolume.uid)?.feed;
    if (feed && isSameSession(feed.request, request)) return { offset: feed.offset };
    const opened = await stateOf(target);
    if (!opened) return { offset: 0 };
    await using state = opened;
    const directory = `/proc/self/fd/${state.fd}`;
    const { result } = await createRecordStore(directory).load();
    const finished = result && (await readUploadState(directory))?.session;
    return {
      offset: await resumeOffset(directory, request),
      ...(finished === undefined ? {} : { finished }),
    };
  }

  async function stateOf(target: FillTarget): Promise<Awaited<ReturnType<typeof findDirectory>>> {
    if ('volume' in target) return await findTransferState(stateDirectory, target.dataVolume.uid);
    await using pool = await openPool(target.pool, target.node);
    return await findDirectory(pool.books, target.dataVolume.uid);
  }

  return {
    async locateUpload({ target, request }) {
      const { uid } = target.dataVolume;
      const feed = desk.get(uid)?.feed;
      return {
        url: dataPort.urlOf({ kind: 'upload', uid }),
        ...(await found(target, request)),
        ...(feed?.attached ? { receiving: feed.request.session } : {}),
      };
    },
    async dismissUpload({ target, type, message }) {
      const { uid } = target.dataVolume;
      const waiting = desk.take(uid);
      if (!waiting) return;
      waiting.feed.settle({ failure: { type, message, retryable: false, offset: 0 } });
      desk.leave(uid, waiting);
    },
  };
}
