/** Requests to the data port of another node: few connections, kept; what breaks off is tried again. */
import { Agent, request as httpsRequest } from 'node:https';
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { finished } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { ApplicationFailure } from '@temporalio/common';
import { freePiece } from '../../data-port/free-piece.js';
import { DATA_PORT_NAME, type TlsFiles } from '../../data-port/tls.js';
import { awayFailure, FAILURE_TYPES, permanentFailure, transientFailure } from '../../failures.js';
import { codeOf } from '../../node/directories.js';
import type { SourceOptions } from '../source/types.js';
import type { DataPortFailure } from '../../types/data-port.js';
import type { FailureType, TransientFailureType } from '../../types.js';

/** Requests under way at once. */
const CONNECTIONS = 4;
/** Failures of one request after which the attempt gives up. */
const MAX_FAILURES = 6;
/** An answer that is no body of ours is not read further. In bytes. */
const MAX_BODY = 16 * 1024 * 1024;

/** Failures of one request that the next one may not meet. */
const PASSES: readonly unknown[] = ['SourceUnavailable', 'NodeUnavailable'] satisfies TransientFailureType[];
/** What connections end with whose other side is away, or ends. */
const SILENT: ReadonlySet<unknown> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'ENOTFOUND',
  'EAI_AGAIN',
]);
/** How soon an attempt asks again that met nobody, in ms; every one asks a few times itself. */
const AWAY_DELAY_MS = 10_000;

/** An answer that is a success. */
export interface DataPortAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** What came behind the body. */
  readonly trailers: IncomingMessage['trailers'];
  /** Empty where the body went into a target. */
  readonly body: Buffer;
}

/** One request; with `target` the body must fill it. */
export type Ask = (
  method: 'HEAD' | 'GET',
  query: string,
  headers: Readonly<Record<string, string>>,
  target?: Uint8Array,
) => Promise<DataPortAnswer>;

/** A client of one resource. */
export interface DataPortClient {
  /** Asks, again and again while that may help. @throws {@link FailureType} what the port says; `NodeUnavailable` when it does not answer */
  readonly ask: Ask;
  /** Does something with answers, again and again while that may help. */
  retrying<T>(work: (ask: Ask) => Promise<T>): Promise<T>;
  /** An answer whose body is read by the caller. */
  open(query: string): Promise<IncomingMessage>;
  close(): void;
}

/** Where the resource is. */
export interface DataPortAddress {
  /** For messages. */
  readonly name: string;
  readonly url: string;
  readonly tls: TlsFiles;
}

/** Opens nothing yet. */
export function createDataPortClient(
  { name, url, tls }: DataPortAddress,
  options: Pick<SourceOptions, 'signal' | 'notice' | 'backoffMs' | 'stallMs'>,
): DataPortClient {
  const { signal, notice, backoffMs = 500, stallMs = 60_000 } = options;
  const secure = { ...tls, servername: DATA_PORT_NAME, minVersion: 'TLSv1.3' } as const;
  const agent = new Agent({ ...secure, keepAlive: true, maxSockets: CONNECTIONS });

  async function send(
    method: string,
    query: string,
    headers: Readonly<Record<string, string>>,
  ): Promise<IncomingMessage> {
    signal.throwIfAborted();
    return await new Promise((resolve, reject) => {
      const sent = httpsRequest(`${url}${query}`, { method, headers, agent, signal, timeout: stallMs });
      sent.once('timeout', () => sent.destroy(stalled(name, stallMs)));
      sent.once('error', reject);
      sent.once('response', resolve);
      sent.end();
    });
  }

  const askOnce: Ask = async (method, query, headers, target) => {
    const response = await send(method, query, headers);
    const status = response.statusCode ?? 0;
    if (status >= 300) throw refused(await gather(response), { status, name });
    const body = target ? await fill(response, target, name) : await gather(response);
    return { status, headers: response.headers, trailers: response.trailers, body };
  };

  async function retrying<T>(work: (ask: Ask) => Promise<T>): Promise<T> {
    for (let failures = 1; ; failures += 1) {
      try {
        return await work(askOnce);
      } catch (error) {
        signal.throwIfAborted();
        const failure = asFailure(error, name);
        const passes = failure.nonRetryable !== true && PASSES.includes(failure.type);
        if (!passes || failures === MAX_FAILURES) throw failure;
        notice?.(`reconnecting: ${failure.message} (attempt ${failures + 1})`);
        await pause(backoffMs * 2 ** (failures - 1), undefined, { signal });
      }
    }
  }

  return {
    ask: async (...args) => await retrying(async (ask) => await ask(...args)),
    retrying,
    async open(query) {
      const response = await send('GET', query, {}).catch((error: unknown) => {
        signal.throwIfAborted();
        throw asFailure(error, name);
      });
      const status = response.statusCode ?? 0;
      if (status >= 300) throw refused(await gather(response), { status, name });
      return response;
    },
    close: () => agent.destroy(),
  };
}

async function gather(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY) throw new Error('an answer of the data port has no end');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** By events, and each piece's memory given back at once: TLS hands over 16 KiB at a time, and an iterator's turn costs as much. */
async function fill(response: IncomingMessage, target: Uint8Array, name: string): Promise<Buffer> {
  let at = 0;
  response.on('data', (chunk: Buffer) => {
    if (at + chunk.length > target.length) {
      const tooMany = `${name}: more bytes came than were asked for`;
      return void response.destroy(transientFailure('SourceUnavailable', tooMany));
    }
    target.set(chunk, at);
    at += chunk.length;
    freePiece(chunk);
  });
  await finished(response);
  if (at < target.length)
    throw (
      failureBehind(response, name) ??
      transientFailure('SourceUnavailable', `${name}: the answer ended after ${at} of ${target.length} bytes`)
    );
  return Buffer.alloc(0);
}

/** The failure that the port tells; one that is no JSON of ours is a stranger's, or a port that is going down. */
function refused(body: Buffer, { status, name }: { readonly status: number; readonly name: string }): Error {
  try {
    return failureOf(JSON.parse(body.toString()) as DataPortFailure, name);
  } catch {
    // to HEAD there is no body
    if (status === 412)
      return transientFailure('SourceChanged', `${name}: source changed while it was cloned`);
    if (status === 410) return permanentFailure('SourceNotFound', `${name} was removed while it was cloned`);
    return transientFailure('SourceUnavailable', `the data port of ${name} answered ${status}`);
  }
}

/** What went wrong on the other side after the answer had begun; it comes where the digest would be. */
export function failureBehind({ trailers }: IncomingMessage, name: string): Error | undefined {
  const told = trailers['dvflow-failure'];
  if (told === undefined) return undefined;
  try {
    return failureOf(JSON.parse(Buffer.from(told, 'base64').toString()) as DataPortFailure, name);
  } catch {
    return transientFailure(
      'SourceUnavailable',
      `${name}: the answer ended with a failure that says nothing`,
    );
  }
}

/** A failure as it was on the other side. @throws Error for something else */
export function failureOf({ type, message, retryable }: DataPortFailure, name: string): Error {
  if (!Object.hasOwn(FAILURE_TYPES, type)) throw new Error('not a failure of a data port');
  if (!retryable) return permanentFailure(type as FailureType, `${name}: ${message}`);
  // a resource that is not open is opened again by the lifecycle
  const told = type === 'NodeUnavailable' ? 'SourceUnavailable' : type;
  return transientFailure(told as TransientFailureType, `${name}: ${message}`);
}

function asFailure(error: unknown, name: string): ApplicationFailure {
  if (error instanceof ApplicationFailure) return error;
  const code = codeOf(error);
  const why = typeof code === 'string' ? code : error instanceof Error ? error.name : typeof error;
  if (SILENT.has(code)) return away(`the data port of ${name} does not answer (${why})`, error);
  return transientFailure('SourceUnavailable', `the data port of ${name} does not answer (${why})`, {
    cause: error,
  });
}

function stalled(name: string, ms: number): ApplicationFailure {
  return away(`the data port of ${name}: no byte for ${ms} ms`);
}

function away(message: string, cause?: unknown): ApplicationFailure {
  return awayFailure(message, { cause, nextRetryDelayMs: AWAY_DELAY_MS });
}
