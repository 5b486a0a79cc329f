import { setTimeout as pause } from 'node:timers/promises';
import { Context } from '@temporalio/activity';
import { describeFailure } from '../../data-port/answers.js';
import {
  FAILURES_OF_THE_FILE,
  failureTypeOf,
  permanentFailure,
  transientFailure,
  type ApplicationFailure,
} from '../../failures.js';
import type { Owner } from '../../node/directories.js';
import { verifyFilled } from '../../node/verify-filled.js';
import { memoryIn } from '../../node/pool-memory.js';
import { STATE_DIRECTORY } from '../../node/volume-state.js';
import type { DataPort } from '../../types/data-port.js';
import type { ReceiveInput, Reception as Received, UploadTransferActivities } from '../../types/upload.js';
import type { TransferProgress, TransferResult } from '../../types.js';
import { asFailure, countUnrecorded, startHeart, withRetry } from '../attempt.js';
import { runChild, type ChildOptions } from '../child-process.js';
import { scratchReason } from '../refusals.js';
import { openReservedTarget } from '../reserved-target.js';
import { createRecordStore } from '../resume-record.js';
import { openScratch, type OpenScratch } from '../transfer-scratch.js';
import { openTransferTarget, type TransferTarget } from '../transfer-target.js';
import { descriptorsOf, movedBefore, movedBy, type MovedBytes } from '../transfer.js';
import { isSameSession, type Reception, type UploadDesk } from './desk.js';
import { createFeed, type Feed, type FeedLimits } from './feed.js';
import { findFinished, takeOver, type Remembered } from './sessions.js';
import { forgetUpload, resumeOffset } from './upload-state.js';

/** What the reception of uploads needs. */
export interface ReceiveDependencies {
  readonly node: string;
  readonly dataPort: DataPort;
  readonly desk: UploadDesk;
  /** Owns disks and runs the child; absent: the worker's own user. */
  readonly transferUser?: Owner | undefined;
  /** @default '/var/lib/dvflow' */
  readonly stateDirectory?: string | undefined;
  /** The child's program. @default `child` beside `child-process.ts` */
  readonly childPath?: string | undefined;
  /** Set by tests. */
  readonly limits?: FeedLimits | undefined;
  /** Told that an attempt begins; what it returns is told what has moved by now. */
  readonly observe?: ((before: MovedBytes) => (now: MovedBytes) => void) | undefined;
}

/** A client that has just been let in comes within this time. */
const REFUSING_MS = 1_000;

/** One attempt's open files. */
interface Opened extends Remembered {
  readonly target: TransferTarget;
  readonly scratch: OpenScratch | undefined;
}

type Beat = (progress: TransferProgress) => void;

/** The receiving side of uploads on one node. */
export function createReceiveActivities(dependencies: ReceiveDependencies): UploadTransferActivities {
  const { node, desk, dataPort, transferUser, stateDirectory = STATE_DIRECTORY } = dependencies;

  async function receiveUpload(input: ReceiveInput): Promise<Received> {
    const { cancellationSignal: signal } = Context.current();
    using heart = startHeart();
    let reception: Reception | undefined;
    let received: Received | undefined;
    try {
      received = await receive(input, { beat: heart.beat, entered: (made) => (reception = made) });
      // the volume is closed by now, as it must be to be looked at
      if (received.outcome === 'complete') await prove(input, received.result, reception?.feed);
      return received;
    } catch (error) {
      signal.throwIfAborted();
      const barren = countUnrecorded(heart.barren, error);
      const failure = withRetry(asFailure(error, node), barren);
      heart.count(barren);
      reception?.feed.settle({ failure: describeFailure(failure, reception.feed.offset) });
      throw failure;
    } finally {
      if (reception) end(input, reception, received);
    }
  }

  /** A file that needs scratch space waits for the next attempt, with its client. */
  function end(input: ReceiveInput, reception: Reception, received: Received | undefined): void {
    if (received?.outcome !== 'scratch') return leave(input, reception);
    desk.park(input.target.dataVolume.uid, reception, () => leave(input, reception));
  }

  /** Whoever has not been told by now is told that it was ended from outside. */
  function leave({ target }: Pick<ReceiveInput, 'target'>, reception: Reception): void {
    const ended = transientFailure('NodeUnavailable', 'the upload was ended on this node: try again');
    reception.feed.settle({ failure: describeFailure(ended, reception.feed.offset) });
    desk.leave(target.dataVolume.uid, reception);
  }

  async function prove(input: ReceiveInput, result: TransferResult, feed: Feed | undefined): Promise<void> {
    const { target: directory, request } = input;
    const { contentType } = request;
    const context = { node, transferUser, stateDirectory, memory: memoryIn(stateDirectory) };
    await verifyFilled({ directory, transferred: result, contentType }, context);
    const { virtualSize, bytesTransferred: bytes, bytesWritten, format, checksum } = result;
    const more = checksum === undefined ? {} : { checksum };
    feed?.settle({ success: { virtualSize, bytes, bytesWritten, format, ...more } });
  }

  async function receive(
    input: ReceiveInput,
    { beat, entered }: { readonly beat: Beat; readonly entered: (reception: Reception) => void },
  ): Promise<Received> {
    const { request } = input;
    await using target = await openTarget(input);
    await using scratch = await openScratch(input.scratch);
    const directory = `/proc/self/fd/${target.state.fd}`;
    const opened = { target, scratch, directory, records: createRecordStore(directory, transferUser) };
    const finished = await findFinished(opened, request);
    if (finished) {
      const { same, ...made } = finished;
      if (!same) await refuseOther(input, opened);
      return { outcome: 'complete', ...made };
    }
    const reception = await enter(input, opened);
    entered(reception);
    const ended = await takeOver(request, opened, reception.feed);
    if (ended) return interrupted(transientFailure('SourceUnavailable', ended.broken), 0, reception.feed);
    const record = await opened.records.load();
    try {
      const options = await childOptions(input, opened, reception.feed);
      const made = await runChild({
        ...options,
        onProgress: onProgress(reception.feed, movedBefore(record), beat),
      });
      return { outcome: 'complete', result: made, session: request.session };
    } catch (error) {
      Context.current().cancellationSignal.throwIfAborted();
      return await judge(error, input, { opened, feed: reception.feed });
    }
  }

  /** Tells a client that has come meanwhile; the disk is another one's. */
  async function refuseOther(input: ReceiveInput, opened: Opened): Promise<void> {
    const reception = await enter(input, opened);
    const taken = permanentFailure('ResourceExists', 'another upload of this volume is complete');
    reception.feed.settle({ failure: describeFailure(taken, 0) });
    await pause(REFUSING_MS);
    desk.leave(input.target.dataVolume.uid, reception);
  }

  async function openTarget({ target, request }: ReceiveInput): Promise<TransferTarget> {
    const options = {
      owner: transferUser,
      memory: memoryIn(stateDirectory),
      contentType: request.contentType,
    };
    return 'volume' in target
      ? await openReservedTarget(target, { ...options, stateDirectory })
      : await openTransferTarget(target, options);
  }

  /** The session that waits for scratch space, or a new place on the data port. */
  async function enter({ request, target }: ReceiveInput, { directory }: Opened): Promise<Reception> {
    const { uid } = target.dataVolume;
    const waiting = desk.take(uid);
    if (waiting && isSameSession(waiting.feed.request, request) && waiting.feed.replayable) return waiting;
    if (waiting) leave({ target }, waiting);
    const feed = createFeed(request, await resumeOffset(directory, request), dependencies.limits);
    const open = dataPort.open({
      kind: 'upload',
      uid,
      peers: ['dvflow-gateway'],
      handle: (incoming, response) => feed.handle(incoming, response),
    });
    const reception = { feed, open };
    desk.enter(uid, reception);
    return reception;
  }

  function onProgress(feed: Feed, before: MovedBytes, beat: Beat): Beat {
    const moved = dependencies.observe?.(before);
    return (progress) => {
      beat(progress);
      moved?.(movedBy(progress, before));
      if (progress.phase !== 'starting') feed.planned();
    };
  }

  async function childOptions(
    input: ReceiveInput,
    { target, scratch, records }: Opened,
    feed: Feed,
  ): Promise<Omit<ChildOptions, 'onProgress'>> {
    const { request, claim, usableBytes, preallocation, spool } = input;
    const { cancellationSignal: signal, info } = Context.current();
    const { session, length, checksum, contentType } = request;
    const { fence } = await records.load();
    return {
      job: {
        upload: {
          session,
          start: feed.start,
          ...(length === undefined ? {} : { length }),
          ...(checksum === undefined ? {} : { checksum }),
          ...(spool ? { spool } : {}),
        },
        policy: { allowed: [], denied: [] },
        contentType,
        claimName: `${claim.namespace}/${claim.name}`,
        usableBytes,
        preallocation,
        fence: fence + 1,
        attempt: info.attempt,
        ...(scratch ? { scratchRoom: scratch.room } : {}),
      },
      fds: { ...descriptorsOf(target), ...(scratch ? { scratch: scratch.directory.fd } : {}) },
      user: transferUser,
      path: dependencies.childPath,
      signal,
      feed: (channel) => feed.connect(channel),
    };
  }

  /** What became of a file that is not the disk, for its client and for the workflow. */
  async function judge(
    error: unknown,
    { request, scratch }: ReceiveInput,
    { opened, feed }: { readonly opened: Opened; readonly feed: Feed },
  ): Promise<Received> {
    const failure = asFailure(error, node);
    const type = failureTypeOf(failure) ?? 'NodeUnavailable';
    const { message } = failure;
    if (type === 'ScratchSpaceRequired' && !scratch) {
      const reason = scratchReason(message);
      if (!feed.replayable || !feed.attached) {
        await forgetUpload(opened.directory, opened.records);
        const again = transientFailure('ScratchUnavailable', `${message}: send it again, there will be some`);
        feed.settle({ failure: describeFailure(again, 0) });
      }
      return { outcome: 'scratch', reason };
    }
    if (FAILURES_OF_THE_FILE.includes(type)) {
      await forgetUpload(opened.directory, opened.records);
      feed.settle({ failure: describeFailure(failure, 0) });
      return { outcome: 'refused', type, message };
    }
    return interrupted(failure, await resumeOffset(opened.directory, request), feed);
  }

  function interrupted(failure: ApplicationFailure, offset: number, feed: Feed): Received {
    feed.settle({ failure: describeFailure(failure, offset) });
    const type = failureTypeOf(failure) ?? 'NodeUnavailable';
    return { outcome: 'interrupted', type, message: failure.message, offset };
  }

  return { receiveUpload };
}
