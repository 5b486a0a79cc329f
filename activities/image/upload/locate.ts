import { findDirectory } from '../../node/directories.js';
import { openPool } from '../../node/pool.js';
import { memoryIn } from '../../node/pool-memory.js';
import { findTransferState } from '../../node/volume-state.js';
import type { UploadPort } from '../../types/data-port.js';
import type { UploadNodeActivities, UploadPlace, UploadRequest } from '../../types/upload.js';
import type { FillTarget } from '../../types.js';
import { createRecordStore } from '../resume-record.js';
import { isSameSession, type UploadDesk } from './desk.js';
import { readUploadState, resumeOffset } from './upload-state.js';

/** What is asked about uploads on one node. */
export interface LocateDependencies {
  readonly dataPort: UploadPort;
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
    await using pool = await openPool(target.pool, { node: target.node, memory: memoryIn(stateDirectory) });
    return await findDirectory(pool.books, target.dataVolume.uid);
  }

  return {
    async locateUpload({ target, request }) {
      const { uid } = target.dataVolume;
      const feed = desk.get(uid)?.feed;
      const open = feed?.over === false ? feed.request.session : undefined;
      const waiting = dataPort.waitingFor({ kind: 'upload', uid });
      // whoever waits for a slot with its body is as good as one that sends
      const receiving = feed?.attached
        ? feed.request.session
        : (waiting.find((session) => session !== request.session) ?? waiting[0]);
      return {
        url: dataPort.urlOf({ kind: 'upload', uid }),
        ...(await found(target, request)),
        ...(open === undefined ? {} : { open }),
        ...(receiving === undefined ? {} : { receiving }),
      };
    },
    async dismissUpload({ target, type, message, retryable = false, session }) {
      const { uid } = target.dataVolume;
      const failure = { type, message, retryable, offset: 0 };
      const waiting = desk.take(uid);
      waiting?.feed.settle({ failure });
      if (waiting) desk.leave(uid, waiting);
      dataPort.refuse({ kind: 'upload', uid }, failure, session);
    },
  };
}
