/** The client of a node's data port: streams a body to it over mTLS and reads what it says. */
import { once } from 'node:events';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { request, type RequestOptions } from 'node:https';
import type { Readable } from 'node:stream';
import type { OpenedUpload } from '../../activities/types/upload.js';
import { pumpBody, type PumpOptions } from './body-pump.js';
import { UploadError, uploadFailed } from './upload-failures.js';

/** What the data port says of a body that it took. */
export type DataPortAnswer =
  /** The disk is complete, verified and synced. */
  | { readonly complete: true; readonly virtualSize?: number; readonly bytes?: number }
  /** The session goes on at this offset. */
  | { readonly complete: false; readonly offset: number };

/** How to reach a data port: dvflow's authority, and this gateway's certificate. */
export type DataPortTls = Pick<RequestOptions, 'ca' | 'cert' | 'key' | 'agent' | 'servername' | 'minVersion'>;

/** One body. */
export interface DataPortBody extends PumpOptions {
  readonly source: Readable;
  /** Bytes of this body, where known. */
  readonly length?: number;
}

/** Peers that are gone without a word are found out by TCP itself, in ms. */
const KEEP_ALIVE_MS = 15_000;
/** An answer is a small JSON document. */
const MAX_ANSWER_BYTES = 64 * 1024;

/**
 * Sends a body from the offset on. A client that breaks off breaks this connection too, so that the data port keeps what is durable
 * and waits; what was sent as a whole is answered although the client may be gone by then.
 * @throws UploadError with the status for the client
 */
export async function sendToDataPort(
  { url, session, offset }: OpenedUpload,
  { source, length, ...limits }: DataPortBody,
  tls: DataPortTls,
): Promise<DataPortAnswer> {
  const put = start(url, session, tls, {
    method: 'PUT',
    headers: {
      'upload-offset': String(offset),
      'content-type': 'application/octet-stream',
      ...(length === undefined ? {} : { 'content-length': length }),
    },
  });
  const answered = responseOf(put, url);
  // it is awaited below, on whichever way; until then a failure is nobody's
  answered.catch(() => undefined);
  const pump = pumpBody(source, put, limits);
  try {
    // an answer before the end of the body is a refusal: what follows of the body is not sent
    await Promise.race([pump.done, answered.then(() => pump.stop())]);
    return await read(await answered);
  } finally {
    pump.stop();
    if (!put.writableEnded) put.destroy();
  }
}

/** A data port on which the session is not open waits for it; whoever only asks does not. In ms. */
const OFFSET_WITHIN_MS = 2_000;

/** Asks for the durable offset of a session that is open. @throws UploadError */
export async function readOffset(
  { url, session }: Pick<OpenedUpload, 'url' | 'session'>,
  tls: DataPortTls,
): Promise<number> {
  const head = start(url, session, tls, { method: 'HEAD', signal: AbortSignal.timeout(OFFSET_WITHIN_MS) });
  head.end();
  const response = await responseOf(head, url);
  response.resume();
  if ((response.statusCode ?? 500) >= 300) {
    throw new UploadError(502, `the data port of the node answered ${response.statusCode} for its offset`);
  }
  return offsetOf(response);
}

function start(url: string, session: string, tls: DataPortTls, options: RequestOptions): ClientRequest {
  const address = new URL(url);
  address.searchParams.set('session', session);
  const made = request(address, { ...tls, ...options });
  made.on('socket', (socket) => socket.setKeepAlive(true, KEEP_ALIVE_MS));
  // a later error than the one that is awaited has nobody to go to
  made.on('error', () => undefined);
  return made;
}

async function responseOf(asked: ClientRequest, url: string): Promise<IncomingMessage> {
  try {
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    return response;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new UploadError(502, `error in upload-proxy: the data port ${new URL(url).host}: ${reason}`, {
      cause: error,
    });
  }
}

async function read(response: IncomingMessage): Promise<DataPortAnswer> {
  const status = response.statusCode ?? 500;
  const body = await readJson(response);
  if (status === 202) return { complete: false, offset: offsetOf(response) };
  if (status < 300) {
    const { virtualSize, bytes } = body;
    return {
      complete: true,
      ...(typeof virtualSize === 'number' ? { virtualSize } : {}),
      ...(typeof bytes === 'number' ? { bytes } : {}),
    };
  }
  const { type, message, offset } = body;
  const failure = {
    message: typeof message === 'string' ? message : `the data port of the node answered ${status}`,
    ...(typeof type === 'string' ? { type } : {}),
    ...(typeof offset === 'number' ? { offset } : {}),
  };
  throw uploadFailed(failure);
}

/** Whatever is not a JSON object counts as an empty one. */
async function readJson(response: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response) {
    bytes += (chunk as Buffer).length;
    if (bytes <= MAX_ANSWER_BYTES) chunks.push(chunk as Buffer);
  }
  try {
    const parsed: unknown = JSON.parse(Buffer.concat(chunks).toString());
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** @throws UploadError where the data port does not say an offset */
function offsetOf({ headers }: IncomingMessage): number {
  const offset = Number(headers['upload-offset']);
  if (Number.isSafeInteger(offset) && offset >= 0) return offset;
  throw new UploadError(502, 'the data port of the node answered without an offset');
}
