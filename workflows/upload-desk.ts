/** Where clients of an upload come: the Updates `openUpload`, one at a time, and `locateUpload`, and what the run is told of them. */
import {
  ActivityFailure,
  allHandlersFinished,
  ApplicationFailure,
  CancellationScope,
  condition,
  patched,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import type {
  CarriedUpload,
  LocatedUpload,
  OpenedUpload,
  UploadPlace,
  UploadRequest,
} from '../activities/types/upload.js';
import type { ContentType, FailureType, FillTarget } from '../activities/types.js';
import { probing } from './activity-options.js';
import { locateUploadUpdate, openUploadUpdate } from './messages.js';
import { busy, refusal, refuseMalformed } from './upload-requests.js';

/** A client waits so long for a volume that is about to be ready; CDI's proxy grants 10 s as well. */
const READY_WAIT = '10s';
/** Handlers of a run that ends have nothing to wait for but a node's answer. */
const HANDLERS_WAIT = '30s';
/** A client that has been let in has so long to send its first byte before another one may come. */
const TURN_MS = 60_000;
/** Temporal refuses more than 2000 Updates of one run. */
const MOST_UPDATES = 1_500;
/** Mark of the histories in which clients who waited for one are let in one after another. */
const ONE_AT_A_TIME = 'one-client-at-a-time';

/** Where clients of one upload come. */
export interface UploadDesk {
  /** From now on clients are let in: the volume is there. `refuse` says why one may not write now. */
  open(target: FillTarget, contentType: ContentType, refuse?: () => Promise<Trouble | undefined>): void;
  /** The client that has come and is not yet served. */
  take(): UploadRequest | undefined;
  /** Serves a client; `work` is cancelled where another one takes its place, which is told by `replaced`. */
  serve<T>(request: UploadRequest, work: () => Promise<T>): Promise<T | 'replaced'>;
  /** The client of this session has had its last answer: it does not wait any more. */
  forget(session: string): void;
  /** The history grows long: the run is to continue as new as soon as nobody sends. */
  readonly due: boolean;
  /** The disk is this session's file: whoever asks for the session is told so from now on. */
  finish(session: string): void;
  /** No client is let in any more, for this reason; those who wait are told. */
  close(type: FailureType, message: string): Promise<void>;
  /** As `close`, of a run that continues as new: clients come again. Whom `take` returns then is for the next run. */
  handOver(): Promise<void>;
}

/** Why a client is not served. */
export type Trouble = NonNullable<CarriedUpload['trouble']>;

interface Serving {
  readonly request: UploadRequest;
  readonly scope: CancellationScope;
  /** When it was let in, ms since the epoch. */
  readonly since: number;
  replaced: boolean;
}

interface State {
  place?: {
    readonly target: FillTarget;
    readonly contentType: ContentType;
    readonly refuse?: (() => Promise<Trouble | undefined>) | undefined;
  };
  wanted?: Pick<Serving, 'request' | 'since'> | undefined;
  serving?: Serving | undefined;
  closed?: ApplicationFailure;
  /** Session whose file is the disk. */
  finished?: string;
  busy: boolean;
  updates: number;
}

/** Takes the Updates from now on. `wake` has the run look for a client; `step` says what it does meanwhile. */
export function createUploadDesk({ wake, step }: { wake: () => void; step: () => string }): UploadDesk {
  const state: State = { busy: false, updates: 0 };
  const isDue = (): boolean => state.updates >= MOST_UPDATES || workflowInfo().continueAsNewSuggested;

  async function openUpload(request: UploadRequest): Promise<OpenedUpload> {
    state.updates += 1;
    const place = await awaitPlace();
    await condition(() => !state.busy);
    // all who waited go on together, and the first of them is busy already; a history without them stays as it was
    while (state.busy && patched(ONE_AT_A_TIME)) {
      await condition(() => !state.busy);
      if (state.closed) throw state.closed;
    }
    state.busy = true;
    try {
      return await admit(request, place);
    } finally {
      state.busy = false;
    }
  }

  async function locateUpload(request: UploadRequest): Promise<LocatedUpload> {
    state.updates += 1;
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
    { target, contentType, refuse }: NonNullable<State['place']>,
  ): Promise<OpenedUpload> {
    if (request.contentType !== contentType)
      throw refusal('ContentTypeNotSupported', `contentType is ${contentType}, not ${request.contentType}`);
    let place = await ask(target, request);
    const trouble = await refuse?.();
    if (trouble) throw refusal(trouble.type as FailureType, trouble.message, false);
    const { session } = request;
    const before = state.wanted ?? state.serving;
    if (before && before.request.session !== session) await replace(before, place);
    else if (isDue() && state.serving && place.receiving === undefined) {
      // nobody sends: the next run goes on with what is durable
      await endServing();
      place = await ask(target, request);
    }
    if (state.closed) throw state.closed;
    // where its place is open, the reception under way takes the next request too
    const served = state.serving?.request.session === session && place.open === session;
    if (!served) state.wanted = { request, since: Date.now() };
    wake();
    return { url: place.url, session, offset: place.offset };
  }

  /** @throws `UploadInProgress`, `ResourceExists` where the place is another one's */
  async function ask(target: FillTarget, request: UploadRequest): Promise<UploadPlace> {
    const place = await locate(target, request);
    const { finished, receiving, open } = place;
    if (state.closed) throw state.closed;
    if (finished !== undefined && finished !== request.session) {
      // its worker died before it could say so: the next reception finds it
      if (!state.serving) state.wanted = { request, since: Date.now() };
      wake();
      throw refusal('ResourceExists', 'the disk is complete: it is the file of another upload');
    }
    // one that waits on the node although nobody will receive it keeps nobody out
    const known = [open, state.wanted?.request.session, state.serving?.request.session];
    if (receiving !== request.session && receiving !== undefined && known.includes(receiving))
      throw busy('another client is sending');
    return place;
  }

  /** One that nobody sends to gives way; one that has just been let in is still to send. */
  async function replace(
    { request, since }: Pick<Serving, 'request' | 'since'>,
    { open }: UploadPlace,
  ): Promise<void> {
    if (open !== request.session && Date.now() - since < TURN_MS)
      throw busy('another client has just been let in');
    await endServing();
  }

  async function endServing(): Promise<void> {
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

  async function close(why: ApplicationFailure): Promise<void> {
    state.closed ??= why;
    if (allHandlersFinished()) return;
    await CancellationScope.nonCancellable(() => condition(allHandlersFinished, HANDLERS_WAIT));
  }

  return {
    open(target, contentType, refuse) {
      state.place = { target, contentType, refuse };
    },
    take() {
      const { wanted } = state;
      state.wanted = undefined;
      return wanted?.request;
    },
    async serve(request, work) {
      const scope = new CancellationScope();
      const serving = { request, scope, since: Date.now(), replaced: false };
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
    forget(session) {
      if (state.wanted?.request.session === session) state.wanted = undefined;
    },
    get due() {
      return isDue();
    },
    finish(session) {
      state.finished = session;
    },
    close: (type, message) => close(refusal(type, message)),
    handOver: () => close(busy('the upload goes on in a new run: try again')),
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
