import type { IncomingHttpHeaders } from 'node:http';
import { ApplicationFailure, permanentFailure, transientFailure } from '../../failures.js';
import type { FailureType } from '../../types.js';
import { isCertificateCode, wantsCertificate } from './certificate-codes.js';
import { http } from './node-http.js';
import { tlsCause } from './tls-words.js';
import type { Refusal } from './types.js';

/** Heads of servers behind several proxies grow, but not without end. */
export const MAX_HEADER_BYTES = 64 * 1024;

/** Statuses that the same request may not meet again; with 5xx they are {@link FailureType} `SourceUnavailable`. */
const TRANSIENT_STATUSES = new Set([202, 408, 421, 425, 429]);

/** Statuses for those who do not say who they are; some servers do not admit that there is something. */
const UNKNOWN_TO = new Set([401, 403, 404]);

/** A server that asks for more patience than this is not believed. */
const LONGEST_RETRY_AFTER_MS = 3_600_000;

/** What happened, in words, for the codes that users meet most. */
const CAUSES: Readonly<Record<string, string>> = {
  ECONNRESET: 'connection reset',
  EPIPE: 'connection reset',
  ECONNREFUSED: 'connection refused',
  ETIMEDOUT: 'connection timed out',
  EHOSTUNREACH: 'host unreachable',
  ENETUNREACH: 'network unreachable',
  ENOTFOUND: 'host name not found',
  EAI_AGAIN: 'name server did not answer',
  ERR_HTTP_CONTENT_LENGTH_MISMATCH: 'connection closed before the end of the body',
  ERR_STREAM_PREMATURE_CLOSE: 'connection closed before the end of the body',
  HPE_INVALID_EOF_STATE: 'connection closed before the end of the body',
  HPE_HEADER_OVERFLOW: `headers are larger than ${MAX_HEADER_BYTES} bytes`,
};

/**
 * The failure for a status that is no success. 404 and 410 are `SourceNotFound`; 401, 403 and every other 4xx, with which a
 * server refuses the request as such, `SourceForbidden`; 5xx, 408, 421, 425, 429 and 202 `SourceUnavailable`, with
 * `Retry-After` as next retry delay; a redirect to nowhere and a success without a body `SourceNotFound`.
 */
export function statusFailure(answer: Refusal, display: string): ApplicationFailure {
  const { status } = answer;
  const message = `GET ${display}${fromTarget(answer)}: ${statusText(status)}`;
  if (isTransientStatus(status)) return busy(answer, message);
  if (status === 404 || status === 410) return permanentFailure('SourceNotFound', message);
  if (status === 407)
    return permanentFailure('SourceForbidden', `${message}: the proxy wants other credentials`);
  if (status >= 400) return permanentFailure('SourceForbidden', message);
  return permanentFailure('SourceNotFound', `${message}, which is no image`);
}

/** The server may answer otherwise later: when it says so, no sooner. */
export function busy({ headers }: Pick<Refusal, 'headers'>, message: string): ApplicationFailure {
  const delay = retryAfterMs(headers);
  return transientFailure(
    'SourceUnavailable',
    message,
    delay === undefined ? {} : { nextRetryDelayMs: delay },
  );
}

/** Whose answer it is, and why it may be another than the user's own tools get. */
function fromTarget({ status, redirected }: Refusal): string {
  if (!redirected) return '';
  const bare = redirected.withheld && UNKNOWN_TO.has(status);
  return `${fromOrigin(redirected.origin)}${bare ? ', to which credentials are not sent' : ''}`;
}

function fromOrigin(origin: string | undefined): string {
  return origin === undefined ? '' : ` from redirect target ${origin}`;
}

/** The same request may be answered otherwise later. */
export function isTransientStatus(status: number): boolean {
  return status >= 500 || TRANSIENT_STATUSES.has(status);
}

/** `404 Not Found`, in Node's words: a server's own reason phrase is not trusted in a message. */
export function statusText(status: number): string {
  return `${status} ${http.STATUS_CODES[status] ?? 'unknown status'}`;
}

/** `SourceUnavailable` with the request it happened to. */
export function unavailable(display: string, cause: string, error?: unknown): ApplicationFailure {
  return transientFailure('SourceUnavailable', `GET ${display}: ${cause}`, { cause: error });
}

/** Detail of a failure that may be no change at all. */
const CONTRADICTION = 'contradiction';

/** `SourceChanged` with what differs. */
export function changed(display: string, difference: string): ApplicationFailure {
  return transientFailure('SourceChanged', changeMessage(display, difference));
}

/**
 * {@link changed} for a source whose length stays: it was replaced by another of the same length, or the machines behind its name
 * have validators of their own.
 */
export function contradicted(display: string, difference: string): ApplicationFailure {
  return ApplicationFailure.create({
    type: 'SourceChanged' satisfies FailureType,
    message: changeMessage(display, difference),
    nonRetryable: false,
    details: [CONTRADICTION],
  });
}

/** Whether a failure is one of {@link contradicted}. */
export function isContradiction(error: unknown): boolean {
  return error instanceof ApplicationFailure && error.details?.[0] === CONTRADICTION;
}

function changeMessage(display: string, difference: string): string {
  return `GET ${display}: source changed: ${difference}`;
}

/**
 * The failure for an error of a socket, of TLS, of DNS or of the HTTP parser. Failures that are typed already (a refused
 * address) come out of their wrapping as they are.
 *
 * @param target where redirects had led to
 */
export function networkFailure(error: unknown, display: string, target?: URL): ApplicationFailure {
  return connectionFailure(error, `GET ${display}${fromOrigin(target?.origin)}`, 'server');
}

/**
 * {@link networkFailure} for connections of any purpose.
 *
 * @param doing what failed, as the message begins: `GET https://host/disk`
 * @param peer who was connected to: `server`
 */
export function connectionFailure(error: unknown, doing: string, peer: string): ApplicationFailure {
  const chain = causesOf(error);
  const typed = chain.find((link) => link instanceof ApplicationFailure);
  if (typed) return typed;
  const root = chain.at(-1);
  const codes = chain.map(codeOf).filter((code) => code !== undefined);
  const certificate = codes.find((code) => isCertificateCode(code));
  if (certificate !== undefined) {
    // what follows a semicolon is Node's advice to those who start Node
    const reason = root?.message.split(';')[0] ?? '';
    const text = `${doing}: ${peer} certificate is not valid: ${reason} (${certificate})`;
    return permanentFailure('SourceCertificateInvalid', text, bare(root));
  }
  const code = codes.at(-1);
  if (chain.some(wantsCertificate)) {
    const text = `${doing}: ${peer} wants a client certificate, and dvflow has none (${code ?? 'TLS alert'})`;
    return permanentFailure('SourceCertificateInvalid', text, bare(root));
  }
  const why =
    code === undefined
      ? root?.message || 'connection failed'
      : `${causeOf(code, root?.message ?? '', peer)} (${code})`;
  return transientFailure('SourceUnavailable', `${doing}: ${why}`, { cause: bare(root) });
}

function causeOf(code: string, message: string, peer: string): string {
  return CAUSES[code] ?? tlsCause(code, message) ?? ruleBroken(code, message, peer) ?? 'connection failed';
}

/** The parser's own words, in which nothing is the server's. */
function ruleBroken(code: string, message: string, peer: string): string | undefined {
  const [, rule] = /^Parse Error: (.+)$/u.exec(message) ?? [];
  return code.startsWith('HPE_') && rule ? `${peer} breaks the rules of HTTP: ${rule}` : undefined;
}

/** Content-Length is there twice, or is no number: it is the server's way, and not the weather's, to answer so. */
const LENGTHS = new Set(['HPE_UNEXPECTED_CONTENT_LENGTH', 'HPE_INVALID_CONTENT_LENGTH']);

/**
 * The failure for a server that answers, asked again at once, with the same Content-Length that no parser of ours takes; what a
 * proxy or a server that starts may say for a moment stays for later tries.
 */
export function lengthFailure(errors: readonly unknown[], failure: ApplicationFailure): Error | undefined {
  const codes = new Set(errors.map((error) => (error instanceof Error ? codeOf(error) : undefined)));
  const [code] = codes;
  if (errors.length < 2 || codes.size > 1 || code === undefined || !LENGTHS.has(code)) return undefined;
  return permanentFailure('UnsupportedFormat', failure.message);
}

/** Retry-After (RFC 9110 §10.2.3) in ms. */
export function retryAfterMs(headers: IncomingHttpHeaders): number | undefined {
  const text = headers['retry-after']?.trim();
  if (!text) return undefined;
  const ms = /^\d+$/u.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), LONGEST_RETRY_AFTER_MS) : undefined;
}

/** An error and what it was caused by, outermost first; of several attempts to connect the first one counts. */
function causesOf(error: unknown): Error[] {
  const chain: Error[] = [];
  for (let link = error; link instanceof Error && chain.length < 10;) {
    chain.push(link);
    link = link instanceof AggregateError ? link.errors[0] : link.cause;
  }
  return chain;
}

/** An error without its properties: parser errors carry the packet, URL errors the URL, and loggers print what they find. */
function bare(error: Error | undefined): Error | undefined {
  if (!error) return undefined;
  const copy = new Error(error.message);
  copy.name = error.name;
  if (error.stack !== undefined) copy.stack = error.stack;
  return copy;
}

function codeOf(error: Error): string | undefined {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && code !== 'ERR_GOT_REQUEST_ERROR' ? code : undefined;
}
