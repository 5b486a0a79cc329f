/** Resumable uploads by the tus protocol 1.0 (https://tus.io/protocols/resumable-upload), with CDI's tokens. */
import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { MemoryLocker, Server } from '@tus/server';
import { lingerAfter } from '../../../activities/data-port/linger.js';
import { bearerToken } from '../bearer.js';
import { assertAllowed } from '../byte-limit.js';
import type { GatewayParts } from '../parts.js';
import { STALL_MS } from '../body-pump.js';
import { awaitFirstByte, expectsContinue, goneSignal, isUntold, RETRY_LATER } from '../requests.js';
import { awaitUploadClaim, ClaimNotReadyError, type UploadClaim } from '../upload-claims.js';
import { answerOf, logUnforeseen, UploadError, type UploadAnswer } from '../upload-failures.js';
import { TokenError } from '../tokens.js';
import { DataPortStore, tusRequest } from './store.js';
import { nameUpload } from './upload-id.js';
import type { TusRequest } from './whereabouts.js';

/** Where uploads are made; each is below it. */
export const TUS_PATH = '/tus/uploads';

/** Content type of a piece of a file. */
const PIECE_TYPE = 'application/offset+octet-stream';

/** `algorithm:hex` of the whole file, in the metadata. */
const CHECKSUM = /^(?:md5:[0-9a-f]{32}|sha1:[0-9a-f]{40}|sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/i;

/** Headers with which a page of any origin may read any answer, also one that the protocol's library does not give. */
const OPEN = {
  'access-control-allow-origin': '*',
  'access-control-expose-headers':
    'Location, Upload-Offset, Upload-Length, Upload-Expires, Tus-Resumable, Retry-After, Dvflow-Reason',
  'tus-resumable': '1.0.0',
} as const;

/** Header of an answer to HEAD, percent-encoded. */
const REASON = 'dvflow-reason';

/** Statuses after which another try may do; also every one of a server's own. */
const TRANSIENT: readonly number[] = [408, 409, 423, 429];

/** Serves the protocol. */
export function addTus(app: FastifyInstance, parts: GatewayParts): void {
  const store = new DataPortStore(parts);
  const tus = createTusServer(parts, store);
  const serve = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | void> => {
    const { raw } = request;
    if (isPatchByPost(raw)) raw.method = 'PATCH';
    if (raw.method === 'OPTIONS') return await handle(tus, request, reply);
    lingerAfter(raw, reply.raw);
    try {
      const served = await admit(parts, raw);
      expectsContinue(raw);
      const { id } = request.params as { readonly id?: string };
      // what the library would wait for with the upload locked
      if (raw.method === 'HEAD' && id !== undefined) await store.awaitVerdict(id, served.claim);
      if (carriesPiece(raw)) await awaitBody(parts, served);
      return await tusRequest.run(served, () => handle(tus, request, reply));
    } catch (error) {
      logUnforeseen(parts, raw, error);
      const { status, message } = tusAnswerOf(error, raw.method);
      // an answer to HEAD has no body
      const reason = raw.method === 'HEAD' ? { [REASON]: encodeURIComponent(message) } : {};
      const untold = isUntold(raw) ? { connection: 'close' } : {};
      const later = status === 503 ? RETRY_LATER : {};
      const headers = { ...OPEN, ...reason, ...untold, ...later };
      return reply.code(status).headers(headers).type('text/plain; charset=utf-8').send(message);
    }
  };
  app.route({ method: ['POST', 'HEAD', 'PATCH', 'OPTIONS', 'GET'], url: TUS_PATH, handler: serve });
  app.route({ method: ['POST', 'HEAD', 'PATCH', 'OPTIONS', 'GET'], url: `${TUS_PATH}/:id`, handler: serve });
  // the extension `termination` is not offered: an upload ends with its DataVolume, or when nobody goes on with it
  app.delete(`${TUS_PATH}/:id`, async (_request, reply) =>
    reply
      .code(405)
      .headers({ ...OPEN, allow: 'POST, HEAD, PATCH, OPTIONS' })
      .send(),
  );
}

/** Whether a client behind a proxy without PATCH means one (https://tus.io/protocols/resumable-upload#x-http-method-override). */
function isPatchByPost({ method, headers }: TusRequest['raw']): boolean {
  return method === 'POST' && headers['x-http-method-override'] === 'PATCH';
}

/** Whether a piece of a file comes with a request. What the library writes of a POST is not offered (`creation-with-upload`), but it does. */
function carriesPiece({ method, headers }: TusRequest['raw']): boolean {
  if (method === 'PATCH') return true;
  const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
  return method === 'POST' && headers['content-type'] === PIECE_TYPE && hasBody;
}

/** @throws UploadError 408 when nothing comes, 503 when too many wait */
async function awaitBody({ slots }: GatewayParts, { raw, claim }: TusRequest): Promise<void> {
  await slots.wait(claim.uid, (signal) => awaitFirstByte(raw, STALL_MS, signal));
}

async function admit(parts: GatewayParts, raw: TusRequest['raw']): Promise<TusRequest> {
  const token = await parts.tokens.verify(bearerToken(raw.headers.authorization));
  const gone = goneSignal(raw);
  const look = { signal: gone, finished: raw.method === 'HEAD' };
  const claim = await awaitUploadClaim(parts.kubernetes, token, {
    ...look,
    // one that has been made may be on its way: then the claim is not ready for another one
    unready: raw.method !== 'POST',
  });
  const claimNow = async (): Promise<UploadClaim> =>
    await awaitUploadClaim(parts.kubernetes, token, { ...look, unready: true });
  return { raw, claim, gone, claimNow };
}

/**
 * CDI answers by 503 whatever becomes of a claim; clients of this protocol try that again, and it may be of no use. The other way
 * round, they take any answer but 2xx to HEAD for the end of the upload, and begin another one, which costs what is durable: all of
 * them but 423, on which they come again.
 */
function tusAnswerOf(error: unknown, method: string | undefined): UploadAnswer {
  const answer = answerOf(error);
  if (error instanceof ClaimNotReadyError && !error.later) return { ...answer, status: 410 };
  const transient = error instanceof TokenError ? error.kind === 'expired' : isTransient(answer.status);
  return method === 'HEAD' && transient ? { ...answer, status: 423 } : answer;
}

function isTransient(status: number): boolean {
  return status >= 500 || TRANSIENT.includes(status);
}

/** The library answers by itself. */
async function handle(tus: Server, { raw }: FastifyRequest, reply: FastifyReply): Promise<void> {
  reply.hijack();
  keepOpen(reply.raw);
  await tus.handle(raw, reply.raw);
}

/**
 * The library closes the connection with its answer to a body that it has not read as a whole; the answer would be lost on its way,
 * since the client still sends. What follows of the body is read away instead ({@link lingerAfter}).
 */
function keepOpen(response: ServerResponse): void {
  const writeHead = response.writeHead.bind(response) as (...args: unknown[]) => ServerResponse;
  response.writeHead = (...args: unknown[]) =>
    writeHead(...args.map((arg) => (Array.isArray(arg) ? withoutConnection(arg) : arg)));
}

/** Names and values stand by turns. */
function withoutConnection(headers: readonly unknown[]): unknown[] {
  return headers.filter((_, index) => String(headers[index - (index % 2)]).toLowerCase() !== 'connection');
}

function createTusServer(parts: GatewayParts, datastore: DataPortStore): Server {
  return new Server({
    path: TUS_PATH,
    datastore,
    // of this process; between gateways the node decides
    locker: new MemoryLocker(),
    // relative, so that a proxy may have put a prefix before it
    generateUrl: ({ url }, { id }) => (new URL(url).pathname.endsWith('/') ? id : `uploads/${id}`),
    namingFunction: (request, metadata) => newName(request, metadata ?? {}),
    onResponseError: (_request, error) => {
      const raw = tusRequest.getStore()?.raw;
      const known = ownErrorOf(error);
      if (!known && raw) logUnforeseen(parts, raw, error);
      const { status, message } = known ?? tusAnswerOf(error, raw?.method);
      const held = raw?.method === 'HEAD' && isTransient(status);
      return { status_code: held ? 423 : status, body: message };
    },
  });
}

/** What the library itself throws has status and text. */
function ownErrorOf(error: unknown): UploadAnswer | undefined {
  if (error instanceof Error && !('status_code' in error)) return undefined;
  const { status_code: status = 500, body: message = '' } = error as { status_code?: number; body?: string };
  return { status, message };
}

/** @throws UploadError for what cannot become an upload */
function newName(request: Request, metadata: Readonly<Record<string, string | null>>): string {
  const claim: UploadClaim | undefined = tusRequest.getStore()?.claim;
  const length = Number(request.headers.get('upload-length'));
  if (!claim) throw new Error('an upload is made outside of a request');
  if (length === 0) throw new UploadError(400, 'the file is empty');
  // the library's own answer has no figures
  assertAllowed(length, claim, 413);
  const { checksum } = metadata;
  if (checksum !== undefined && !CHECKSUM.test(checksum ?? ''))
    throw new UploadError(
      400,
      'checksum is not md5:, sha1:, sha256: or sha512: and as many hexadecimal digits',
    );
  const name = nameUpload({
    session: randomUUID(),
    claimUid: claim.uid,
    length,
    created: Date.now(),
    metadata,
  });
  if (name === undefined) throw new UploadError(400, 'the metadata of the upload are too long');
  return name;
}
