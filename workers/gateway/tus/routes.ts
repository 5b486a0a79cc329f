/** Resumable uploads by the tus protocol 1.0 (https://tus.io/protocols/resumable-upload), with CDI's tokens. */
import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { MemoryLocker, Server } from '@tus/server';
import { bearerToken } from '../bearer.js';
import { byteLimit } from '../byte-limit.js';
import type { GatewayParts } from '../parts.js';
import { expectsContinue, goneSignal, lingerAfter } from '../requests.js';
import { awaitUploadClaim, ClaimNotReadyError, type UploadClaim } from '../upload-claims.js';
import { answerOf, logUnforeseen, UploadError, type UploadAnswer } from '../upload-failures.js';
import { DataPortStore, tusRequest } from './store.js';
import { nameUpload } from './upload-id.js';

/** Where uploads are made; each is below it. */
export const TUS_PATH = '/tus/uploads';

/** `algorithm:hex` of the whole file, in the metadata. */
const CHECKSUM = /^(?:md5:[0-9a-f]{32}|sha1:[0-9a-f]{40}|sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/i;

/** Headers with which a page of any origin may read any answer, also one that the protocol's library does not give. */
const OPEN = {
  'access-control-allow-origin': '*',
  'access-control-expose-headers':
    'Location, Upload-Offset, Upload-Length, Upload-Expires, Tus-Resumable, Retry-After',
  'tus-resumable': '1.0.0',
} as const;

/** Serves the protocol. */
export function addTus(app: FastifyInstance, parts: GatewayParts): void {
  const tus = createTusServer(parts);
  const serve = async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | void> => {
    const { raw } = request;
    if (raw.method === 'OPTIONS') return await handle(tus, request, reply);
    lingerAfter(raw, reply.raw);
    try {
      const token = await parts.tokens.verify(bearerToken(raw.headers.authorization));
      const gone = goneSignal(raw);
      // one that has been made may be on its way: then the claim is not ready for another one
      const unready = raw.method !== 'POST';
      const claim = await awaitUploadClaim(parts.kubernetes, token, {
        signal: gone,
        unready,
        finished: raw.method === 'HEAD',
      });
      expectsContinue(raw);
      return await tusRequest.run({ raw, claim, gone }, () => handle(tus, request, reply));
    } catch (error) {
      logUnforeseen(parts, raw, error);
      const { status, message } = tusAnswerOf(error);
      return reply.code(status).headers(OPEN).type('text/plain; charset=utf-8').send(message);
    }
  };
  const method = ['POST', 'HEAD', 'PATCH', 'OPTIONS', 'DELETE', 'GET'];
  app.route({ method, url: TUS_PATH, handler: serve });
  app.route({ method, url: `${TUS_PATH}/:id`, handler: serve });
}

/** CDI answers by 503 whatever becomes of a claim; clients of this protocol try that again, and it may be of no use. */
function tusAnswerOf(error: unknown): UploadAnswer {
  const answer = answerOf(error);
  return error instanceof ClaimNotReadyError && !error.later ? { ...answer, status: 410 } : answer;
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

function createTusServer(parts: GatewayParts): Server {
  return new Server({
    path: TUS_PATH,
    datastore: new DataPortStore(parts),
    // of this process; between gateways the node decides
    locker: new MemoryLocker(),
    // relative, so that a proxy may have put a prefix before it
    generateUrl: ({ url }, { id }) => (new URL(url).pathname.endsWith('/') ? id : `uploads/${id}`),
    maxSize: () => {
      const claim = tusRequest.getStore()?.claim;
      return claim ? byteLimit(claim).limitBytes : 0;
    },
    namingFunction: (request, metadata) => newName(request, metadata ?? {}),
    onResponseError: (_request, error) => {
      // what the library itself throws has status and text
      if (!(error instanceof Error) || 'status_code' in error) return undefined;
      const raw = tusRequest.getStore()?.raw;
      if (raw) logUnforeseen(parts, raw, error);
      const { status, message } = tusAnswerOf(error);
      return { status_code: status, body: message };
    },
  });
}

/** @throws UploadError for what cannot become an upload */
function newName(request: Request, metadata: Readonly<Record<string, string | null>>): string {
  const claim: UploadClaim | undefined = tusRequest.getStore()?.claim;
  const length = Number(request.headers.get('upload-length'));
  if (!claim) throw new Error('an upload is made outside of a request');
  if (length === 0) throw new UploadError(400, 'the file is empty');
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
