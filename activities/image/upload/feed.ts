/** The bytes of one session on their way from its requests to the process that decodes. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { answerFailure } from '../../data-port/answers.js';
import { freePiece } from '../../data-port/free-piece.js';
import type { DataPortFailure } from '../../types/data-port.js';
import type { UploadRequest } from '../../types/upload.js';
import type { ChildChannel } from '../child-process.js';
import { writeOn } from './pipe.js';
import { receiveBody, type Received } from './receive-body.js';
import type { BodyEnd } from './upload-source.js';

/** What came before the plan was made is kept, so that a file which needs scratch space need not be sent twice. In bytes. */
const REPLAY_BYTES = 16 * 1024 * 1024;

/** Limits of a feed, in ms. */
export interface FeedLimits {
  /** A client that sends nothing for so long is gone. @default 60_000 */
  readonly stallMs?: number | undefined;
  /** A session to which nobody sends for so long is closed; what is durable stays. @default 60_000 */
  readonly lingerMs?: number | undefined;
}

/** One session being received, over as many requests as its client needs. */
export interface Feed {
  readonly request: UploadRequest;
  /** Offset of its first byte. */
  readonly start: number;
  /** Offset of the next byte that is wanted. */
  readonly offset: number;
  /** A client is sending, or waits for its answer. */
  readonly attached: boolean;
  /** Resolves when the first byte has come, or with how the session ended before. */
  readonly begun: Promise<BodyEnd | undefined>;
  /** Nothing is taken any more: its last byte has come, or nobody came for too long. */
  readonly over: boolean;
  /** What came is still whole: another process can begin with it. */
  readonly replayable: boolean;
  /** Takes or refuses one request of the data port. */
  handle(request: IncomingMessage, response: ServerResponse): Promise<void>;
  /** Feeds this process from now on; what came before is told to it first. */
  connect(channel: ChildChannel): void;
  /** The process has its plan: what it was told need not be told again. */
  planned(): void;
  /** Ends the session with this answer for the client that is attached, and for those who come late. */
  settle(answer: { readonly success: object } | { readonly failure: DataPortFailure }): void;
}

interface Attached {
  readonly response: ServerResponse;
  /** Its body has been read to its end. */
  done: boolean;
}

/** A feed whose first byte is that of offset `start`. */
export function createFeed(request: UploadRequest, start: number, limits: FeedLimits = {}): Feed {
  const { stallMs = 60_000, lingerMs = 60_000 } = limits;
  const { length, resumable = false } = request;
  let offset = start;
  let attached: Attached | undefined;
  let replay: Buffer[] | undefined = [];
  let replayBytes = 0;
  let channel: ChildChannel | undefined;
  let connected = Promise.withResolvers<ChildChannel>();
  const begun = Promise.withResolvers<BodyEnd | undefined>();
  let end: BodyEnd | undefined;
  let settled: Parameters<Feed['settle']>[0] | undefined;
  let linger: NodeJS.Timeout | undefined;

  function wait(): void {
    clearTimeout(linger);
    linger = setTimeout(() => finish({ broken: gone(`nobody sent for ${lingerMs / 1000} s`) }), lingerMs);
  }

  const gone = (why: string): string =>
    `${why}: ${offset}${length === undefined ? '' : ` of ${length}`} bytes have come`;

  function finish(how: BodyEnd): void {
    if (end) return;
    end = how;
    begun.resolve(how);
    clearTimeout(linger);
    channel?.end(how);
  }

  /** Hands a piece of this client on; a promise while the process or its pipe is not ready for more. */
  function take(piece: Buffer, mine: Attached): false | undefined | Promise<false | undefined> {
    if (settled || end) return false;
    if (length !== undefined && offset + piece.length > length) return false;
    begun.resolve(undefined);
    // a client that left meanwhile sends it again: it was not counted
    if (!channel) return connected.promise.then(() => (attached === mine ? take(piece, mine) : false));
    offset += piece.length;
    const kept = keep(piece);
    const full = writeOn(channel.body, piece, () => void (kept || freePiece(piece)));
    return full?.then(() => (settled || end ? false : undefined));
  }

  /** The process has ended: what comes waits until another one is connected. */
  function disconnect(from: ChildChannel): void {
    if (channel !== from) return;
    channel = undefined;
    connected = Promise.withResolvers();
    if (settled) connected.promise.catch(() => undefined);
  }

  /** Whether it may be told again. */
  function keep(piece: Buffer): boolean {
    replayBytes += piece.length;
    if (replayBytes > REPLAY_BYTES) replay = undefined;
    replay?.push(piece);
    return replay !== undefined;
  }

  async function handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const refusal = whyRefused(incoming);
    if (refusal) return answerFailure(response, refusal);
    if (incoming.method === 'HEAD') return answerOffset(response, 200);
    if (settled) return tell(response, settled);
    clearTimeout(linger);
    const mine: Attached = { response, done: false };
    attached = mine;
    const how = await receiveBody(incoming, { take: (piece) => take(piece, mine), stallMs });
    await afterBody(how, mine);
  }

  function whyRefused({ method, url = '', headers }: IncomingMessage): DataPortFailure | undefined {
    const session = new URL(url, 'https://localhost').searchParams.get('session');
    if (method !== 'PUT' && method !== 'HEAD')
      return failure('InvalidDataVolume', `${method} is not served here: use PUT or HEAD`, false);
    const asking = method === 'HEAD';
    // its offset is nobody else's
    if (session !== request.session || (attached && !settled && !asking))
      return failure('UploadInProgress', 'another request is being received', true);
    if (asking) return undefined;
    const from = Number(headers['upload-offset'] ?? 0);
    if (from !== offset)
      return failure(
        'SourceChanged',
        `the next byte wanted is ${offset}, the request begins at ${from}`,
        true,
      );
    return undefined;
  }

  async function afterBody(how: Received, mine: Attached): Promise<void> {
    mine.done = true;
    if (settled) return;
    const whole = how === 'ended' && (length === undefined || offset === length);
    if (whole) return finish({ complete: true });
    const why = whyShort(how);
    if (how === 'refused' && !end) return finish({ broken: gone(why) });
    if (!resumable) return finish({ broken: gone(why) });
    attached = undefined;
    wait();
    if (how === 'ended') answerOffset(mine.response, 202);
    else answerFailure(mine.response, failure('SourceUnavailable', gone(why), true));
  }

  function whyShort(how: Received): string {
    if (how === 'stalled') return `the client sent nothing for ${stallMs / 1000} s`;
    if (how === 'broken') return 'the connection of the client broke off';
    return how === 'refused'
      ? `the client sent more than was announced`
      : 'the client sent less than it announced';
  }

  function answerOffset(response: ServerResponse, status: number): void {
    if (response.destroyed) return;
    const headers = {
      'upload-offset': `${offset}`,
      ...(length === undefined ? {} : { 'upload-length': `${length}` }),
    };
    response.writeHead(status, { ...headers, 'cache-control': 'no-store', 'content-length': 0 }).end();
  }

  function failure(type: DataPortFailure['type'], message: string, retryable: boolean): DataPortFailure {
    return { type, message, retryable, offset };
  }

  wait();
  // nothing is missing: the process need not wait for anybody
  if (length !== undefined && start === length) finish({ complete: true });
  return {
    request,
    start,
    get offset() {
      return offset;
    },
    get attached() {
      return attached !== undefined && !settled;
    },
    get over() {
      return (settled ?? end) !== undefined;
    },
    begun: begun.promise,
    get replayable() {
      return replay !== undefined;
    },
    handle,
    connect(to) {
      for (const piece of replay ?? []) to.body.write(piece);
      channel = to;
      to.body.once('close', () => disconnect(to));
      if (end) to.end(end);
      connected.resolve(to);
    },
    planned() {
      replay = undefined;
    },
    settle(answer) {
      settled = answer;
      begun.resolve({ broken: 'the session is over' });
      clearTimeout(linger);
      if (attached) tell(attached.response, answer);
      connected.promise.catch(() => undefined);
      connected.reject(new Error('the session is over'));
    },
  };
}

function tell(response: ServerResponse, answer: Parameters<Feed['settle']>[0]): void {
  if ('failure' in answer) return answerFailure(response, answer.failure);
  if (response.destroyed || response.headersSent) return;
  const body = JSON.stringify(answer.success);
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  response.end(body);
}
