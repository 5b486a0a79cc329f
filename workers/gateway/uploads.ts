/** CDI's upload endpoints (`cdi.md` §3.3, §3.4; `clients.md` §2.4-2.6): one body, one disk, and 200 only when that is whole. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { lingerAfter } from '../../activities/data-port/linger.js';
import { bearerToken } from './bearer.js';
import { STALL_MS } from './body-pump.js';
import { assertAllowed, byteLimit } from './byte-limit.js';
import { sendToDataPort } from './data-port.js';
import type { GatewayParts } from './parts.js';
import { awaitFirstByte, expectsContinue, goneSignal, sendAnswer } from './requests.js';
import { countReceived } from './received-bytes.js';
import { readFormFile } from './form-file.js';
import { assertKept, awaitUploadClaim, type UploadClaim } from './upload-claims.js';
import { answerOf, logUnforeseen, UploadError } from './upload-failures.js';
import { mayUpload } from './upload-token-requests.js';
import { TokenError, type UploadToken } from './tokens.js';

/** CDI's paths, below each of its versions. Asynchronous ones answer like the others, when the disk is complete. */
const PATHS = ['upload', 'upload-async', 'upload-form', 'upload-form-async'] as const;
const VERSIONS = ['v1beta1', 'v1alpha1'] as const;

/** A body to move. */
interface Body {
  readonly source: Readable;
  /** Bytes of it, where known. */
  readonly length?: number;
  readonly isWhole?: () => boolean;
  readonly onWritten?: (piece: Buffer) => void;
}

/** How the endpoint takes its body. */
interface UploadKind {
  /** Content type of the form; undefined where the body is the file. */
  readonly form: string | undefined;
  readonly asynchronous: boolean;
}

/** Serves the endpoints. */
export function addUploads(app: FastifyInstance, parts: GatewayParts): void {
  // whatever a client says of its body: fastify would judge it
  const contentTypes = new WeakMap<IncomingMessage, string | undefined>();
  app.addHook('onRequest', async ({ raw }) => {
    contentTypes.set(raw, raw.headers['content-type']);
    raw.headers['content-type'] = 'application/octet-stream';
  });
  for (const version of VERSIONS) {
    for (const path of PATHS) {
      const form = path.includes('form');
      const asynchronous = path.endsWith('async');
      app.all(`/${version}/${path}`, async (request, reply) => {
        lingerAfter(request.raw, reply.raw);
        const contentType = form ? (contentTypes.get(request.raw) ?? '') : undefined;
        const answer = await answerUpload(parts, request, { asynchronous, form: contentType }).catch(
          (error: unknown) => {
            logUnforeseen(parts, request.raw, error);
            return answerOf(error);
          },
        );
        return sendAnswer(request, reply, answer);
      });
    }
  }
  // a page of another origin may renew its token, too
  app.post('/v1beta1/upload-token', async (request, reply) => await renewToken(parts, request, reply));
}

/** In CDI's order: the token, the claim, the method. */
async function answerUpload(
  parts: GatewayParts,
  { raw }: FastifyRequest,
  { form, asynchronous }: UploadKind,
): Promise<{ readonly status: number; readonly message: string }> {
  const { kubernetes, tokens } = parts;
  const gone = goneSignal(raw);
  const token = await tokens.verify(bearerToken(raw.headers.authorization));
  const claim = await awaitUploadClaim(kubernetes, token, { signal: gone });
  // virtctl asks whether there are asynchronous uploads before each of them
  if (raw.method === 'HEAD' && asynchronous) return { status: 200, message: '' };
  if (raw.method !== 'POST') return { status: 404, message: `${raw.method} is not served here` };
  return await receive(parts, raw, { claim, form, gone });
}

async function receive(
  parts: GatewayParts,
  raw: IncomingMessage,
  {
    claim,
    form,
    gone,
  }: {
    readonly claim: UploadClaim;
    readonly form: string | undefined;
    readonly gone: AbortSignal;
  },
): Promise<{ readonly status: number; readonly message: string }> {
  const { slots, openUpload, dataPortTls, logger, metrics } = parts;
  const limit = byteLimit(claim);
  const length = form === undefined ? lengthOf(raw) : undefined;
  assertAllowed(length ?? 0, claim, 400);
  const body = await beginningOf(raw, { form, length, slots, claimUid: claim.uid });
  const giveBack = slots.take();
  const received = countReceived(metrics);
  try {
    const started = performance.now();
    const { contentType } = claim;
    const request = { session: randomUUID(), contentType, ...(length === undefined ? {} : { length }) };
    const opened = await openUpload(claim, request, gone);
    const answer = await sendToDataPort(opened, { ...body, ...limit, onBytes: received.add }, dataPortTls());
    if (!answer.complete)
      throw new UploadError(
        500,
        `Saving stream failed: the node has ${answer.offset} bytes and waits for more`,
      );
    await assertKept(parts.kubernetes, claim);
    const { namespace, name } = claim;
    logger.info('upload complete', {
      namespace,
      name,
      ...answer,
      ms: Math.round(performance.now() - started),
    });
    return { status: 200, message: 'the disk is complete, verified and synced' };
  } finally {
    received.end();
    giveBack();
  }
}

/** Lets the client send, and waits for the first byte of its file. @throws UploadError 408 when none comes, 503 when too many wait */
async function beginningOf(
  raw: IncomingMessage,
  {
    form,
    length,
    slots,
    claimUid,
  }: {
    readonly form: string | undefined;
    readonly length: number | undefined;
    readonly slots: GatewayParts['slots'];
    readonly claimUid: string;
  },
): Promise<Body> {
  return await slots.wait(claimUid, async (signal) => {
    expectsContinue(raw);
    const body = form === undefined ? plainBody(raw, length) : await readFormFile(raw, form, { signal });
    await awaitFirstByte(body.source, STALL_MS, signal);
    return body;
  });
}

function plainBody(raw: IncomingMessage, length: number | undefined): Body {
  return { source: raw, ...(length === undefined ? {} : { length }) };
}

/** Node has judged the header. */
function lengthOf({ headers }: IncomingMessage): number | undefined {
  const text = headers['content-length'];
  return text === undefined ? undefined : Number(text);
}

/** A good token for another one: an upload may take longer than a token lasts, and its user may lose the right to it meanwhile. */
async function renewToken(
  { tokens, kubernetes }: GatewayParts,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  try {
    const token = await tokens.verify(bearerToken(request.headers.authorization));
    // a claim that is finished or another one needs no token
    await awaitUploadClaim(kubernetes, token, { readyWithinMs: 0, unready: true });
    await authorizeAgain(kubernetes, token);
    return await reply
      .code(200)
      .header('cache-control', 'no-store')
      .send({ token: await tokens.renew(token) });
  } catch (error) {
    return sendAnswer(request, reply, answerOf(error));
  }
}

/** @throws TokenError `forbidden` for a holder that may not upload any more, or is not known */
async function authorizeAgain(
  kubernetes: Pick<GatewayParts['kubernetes'], 'authorization'>,
  { holder, namespace }: UploadToken,
): Promise<void> {
  if (!holder) throw new TokenError('forbidden', 'this upload token cannot be renewed: ask for a new one');
  const { allowed, reason } = await mayUpload(kubernetes, holder, { namespace });
  if (allowed) return;
  throw new TokenError(
    'forbidden',
    `user "${holder.user}" may not upload into namespace "${namespace}" any more${reason}`,
  );
}
