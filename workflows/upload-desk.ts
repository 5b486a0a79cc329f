/** Where clients of an upload come: the Updates `openUpload`, one at a time, and `locateUpload`, and what the run is told of them. */
import {
  ActivityFailure,
  allHandlersFinished,
  ApplicationFailure,
  CancellationScope,
  condition,
  setHandler,
} from '@temporalio/workflow';
import type { LocatedUpload, OpenedUpload, UploadPlace, UploadRequest } from '../activities/types/upload.js';
import type { ContentType, FailureType, FillTarget } from '../activities/types.js';
import { probing } from './activity-options.js';
import { locateUploadUpdate, openUploadUpdate } from './messages.js';

/** A client waits so long for a volume that is about to be ready; CDI's proxy grants 10 s as well. */
const READY_WAIT = '10s';
/** Handlers of a run that ends have nothing to wait for but a node's answer. */
const HANDLERS_WAIT = '30s';
const SESSION = /^[\w-]{1,128}$/;
const CHECKSUM = /^(?:md5|sha1|sha256|sha512):[0-9a-f]+$/i;

/** Where clients of one upload come. */
export interface UploadDesk {
  /** From now on clients are let in: the volume is there. */
  open(target: FillTarget, contentType: ContentType): void;
  /** The client that has come and is not yet served. */
  take(): UploadRequest | undefined;
  /** Serves a client; `work` is cancelled where another one takes its place, which is told by `replaced`. */
  serve<T>(request: UploadRequest, work: () => Promise<T>): Promise<T | 'replaced'>;
  /** The disk is this session's file: whoever asks for the session is told so from now on. */
  finish(session: string): void;
  /** No client is let in any more, for this reason; those who wait are told. */
  close(type: FailureType, message: string): Promise<void>;
}

interface State {
  place?: { readonly target: FillTarget; readonly contentType: ContentType };
  wanted?: UploadRequest | undefined;
  serving?:
    { readonly request: UploadRequest; readonly scope: CancellationScope; replaced: boolean } | undefined;
  closed?: ApplicationFailure;
  /** Session whose file is the disk. */
  finished?: string;
  busy: boolean;
}

/** Takes the Update from now on. `wake` has the run look for a client; `step` says what it does meanwhile. */
export function createUploadDesk({ wake, step }: { wake: () => void; step: () => string }): UploadDesk {
  const state: State = { busy: false };

  async function openUpload(request: UploadRequest): Promise<OpenedUpload> {
    const place = await awaitPlace();
    await condition(() => !state.busy);
    state.busy = true;
    try {
      return await admit(request, place);
    } finally {
      state.busy = false;
    }
  }

  async function locateUpload(request: UploadRequest): Promise<LocatedUpload> {
    const { session, length = 0 } = request;
    const complete = (): LocatedUpload | undefined =>
      state.finished === session ? { session, offset: length, complete: true } : undefined;
    // its client may have been gone when it was told
    const known = complete();
    if (known) return known;
    const { target } = await awaitPlace();
    const { url, offset, receiving } = await locate(target, request);
    return complete() ?? { session, url, offset, ...(receiving === session ? { receiving: true } : {}) };
  }

  async function awaitPlace(): Promise<NonNullable<State['place']>> {
    await condition(() => state.place !== undefined || state.closed !== undefined, READY_WAIT);
    if (state.closed) throw state.closed;
    if (!state.place) throw busy(`the upload is not ready yet: ${step()}`);
    return state.place;
  }

  async function admit(
    request: UploadRequest,
    { target, contentType }: NonNullable<State['place']>,
  ): Promise<OpenedUpload> {
    if (request.contentType !== contentType)
      throw refusal('ContentTypeNotSupported', `contentType is ${contentType}, not ${request.contentType}`);
    const place = await locate(target, request);
    if (state.closed) throw state.closed;
    if (place.finished !== undefined && place.finished !== request.session) {
      // its worker died before it could say so: the next reception finds it
      if (!state.serving) state.wanted = request;
      wake();
      throw refusal('ResourceExists', 'the disk is complete: it is the file of another upload');
    }
    const before = state.wanted ?? state.serving?.request;
    if (before && before.session !== request.session) await replace(place);
    state.wanted = request;
    wake();
    return { url: place.url, session: request.session, offset: place.offset };
  }

  /** One that nobody sends to gives way; one that is being received does not. */
  async function replace({ receiving }: UploadPlace): Promise<void> {
    if (receiving !== undefined) throw busy('another client is sending');
    state.wanted = undefined;
    const { serving } = state;
    if (!serving) return;
    serving.replaced = true;
    serving.scope.cancel();
    await condition(() => state.serving !== serving);
    if (state.closed) throw state.closed;
  }

  setHandler(openUploadUpdate, openUpload, { validator: refuseMalformed });
  setHandler(locateUploadUpdate, locateUpload, { validator: refuseMalformed });

  return {
    open(target, contentType) {
      state.place = { target, contentType };
    },
    take() {
      const { wanted } = state;
      state.wanted = undefined;
      return wanted;
    },
    async serve(request, work) {
      const scope = new CancellationScope();
      const serving = { request, scope, replaced: false };
      state.serving = serving;
      try {
        return await scope.run(work);
      } catch (error) {
        if (serving.replaced) return 'replaced';
        throw error;
      } finally {
        state.serving = undefined;
      }
    },
    finish(session) {
      state.finished = session;
    },
    async close(type, message) {
      state.closed ??= refusal(type, message);
      if (allHandlersFinished()) return;
      await CancellationScope.nonCancellable(() => condition(allHandlersFinished, HANDLERS_WAIT));
    },
  };
}

/** Asks the node; one that does not answer within seconds cannot receive either. */
async function locate(target: FillTarget, request: UploadRequest): Promise<UploadPlace> {
  try {
    return await probing(target.node).locateUpload({ target, request });
  } catch (error) {
    if (!(error instanceof ActivityFailure)) throw error;
    const { cause } = error;
    if (cause instanceof ApplicationFailure) throw cause;
    throw refusal('NodeUnavailable', `node ${target.node}, which holds the volume, does not answer`, false);
  }
}

/** Not written into the history: nothing was asked for. */
function refuseMalformed(request: UploadRequest | undefined): void {
  const { session, length, checksum, contentType } = request ?? ({} as Partial<UploadRequest>);
  const wrong =
    (!SESSION.test(session ?? '') && 'session is 1 to 128 letters, digits, - and _') ||
    (length !== undefined &&
      !(Number.isSafeInteger(length) && length >= 0) &&
      'length is a number of bytes') ||
    (checksum !== undefined && !CHECKSUM.test(checksum) && 'checksum is algorithm:hex') ||
    (contentType !== 'kubevirt' && contentType !== 'archive' && 'contentType is kubevirt or archive');
  if (wrong) throw refusal('InvalidDataVolume', `the upload's request: ${wrong}`);
}

function busy(message: string): ApplicationFailure {
  return refusal('UploadInProgress', message, false);
}

function refusal(type: FailureType, message: string, nonRetryable = true): ApplicationFailure {
  return ApplicationFailure.create({ type, message, nonRetryable });
}
