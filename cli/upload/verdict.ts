/** What a try that has broken off says of the next one. */
import { DetailedError } from 'tus-js-client';
import { isCertificateCode, wantsCertificate } from '../../activities/image/source/certificate-codes.js';
import { NO_TLS, tlsCause } from '../../activities/image/source/tls-words.js';
import { CliError, EXIT, statusMessage } from '../errors.js';
import { passingFault } from './kubernetes-calls.js';

/**
 * Tries that break off alike, in a row, after which a fault is taken for lasting that may also be that of a network which is coming
 * up, or of a gateway that is being replaced: about 20 seconds.
 */
export const PATIENCE = 6;
/** A token may have ended on the way, but each try has a new one. */
const TOKENS = 3;

/** 4xx that are about this moment, and not about the upload. 409 is another offset, which the next try asks for. */
const MOMENTARY = new Set([408, 409, 421, 423, 425, 429]);
/** 5xx that are about the request, and the next one is the same. */
const LASTING = new Set([501, 505]);

/** When a try broke off. */
export interface Circumstances {
  readonly endpoint: string;
  /** Tries in a row that broke off alike and without a new byte, this one included ({@link faultOf}). */
  readonly alike: number;
  /** The gateway has answered since this program began: it is there, and so is the way to it. */
  readonly met: boolean;
  /** The upload has an address, under which it was to go on. */
  readonly known: boolean;
}

/** What becomes of an upload. */
export interface Verdict {
  /** Its address is worth nothing any more: whoever goes on makes another upload. */
  readonly forget: boolean;
  /** No other try cures it. */
  readonly final: Error | undefined;
}

/** Judges a try by its error. Whatever is not known to last is tried again: a server that is away may come back. */
export function verdictOf(error: unknown, circumstances: Circumstances): Verdict {
  if (error instanceof CliError) return { forget: false, final: error };
  const status = statusOf(error);
  if (status === 0) return { forget: false, final: withoutAnswer(error, circumstances) };
  // of an upload that there is, whoever stands before the gateway knows nothing: its routes may be on their way
  const isForeign = circumstances.known && !isFromGateway(error);
  const isMissing = status === 404 || status === 410;
  // the upload is not there any more: only then is another one made
  if (circumstances.known && isMissing && circumstances.alike < PATIENCE)
    return { forget: !isForeign, final: undefined };
  const final = answered(error, status, circumstances);
  return { forget: final !== undefined && isAnswerToHead(error) && !isForeign, final };
}

/** What tries that break off alike have in common. */
export function faultOf(error: unknown): string {
  const { code } = (causeOf(error) ?? {}) as { code?: unknown };
  return `${statusOf(error)} ${String(code)}`;
}

/** Whether the answer is of one who speaks the protocol. */
function isFromGateway(error: unknown): boolean {
  return error instanceof DetailedError && error.originalResponse?.getHeader('Tus-Resumable') !== undefined;
}

/** Why a try broke off, in the server's words where it has some. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof DetailedError)) return error instanceof Error ? error.message : String(error);
  const { originalResponse, causingError } = error;
  const body = originalResponse?.getBody().trim() ?? '';
  return (
    decodeURIComponent(originalResponse?.getHeader('Dvflow-Reason') ?? '') ||
    // pages for browsers, of whatever stands before the gateway
    (body.startsWith('<') ? '' : body) ||
    (causingError && wordsOf(causingError)) ||
    (originalResponse?.getStatus() === 423 && 'the server cannot go on with the upload yet') ||
    `HTTP ${originalResponse?.getStatus()}`
  );
}

/** Of an answer of kube-apiserver, or of the lack of one, without the dump of it that client-node makes its message. */
function wordsOf(cause: Error): string {
  if (!('body' in cause) && cause.name !== 'TimeoutError') return cause.message;
  const fault = passingFault(cause);
  if (fault !== undefined) return `Kubernetes does not answer (${fault})`;
  return statusMessage((cause as { body?: unknown }).body) ?? cause.message;
}

/** The server cannot be reached, or spoken to; or no token was to be had. */
function withoutAnswer(error: unknown, { endpoint, alike, met }: Circumstances): Error | undefined {
  const cause = causeOf(error);
  if (!cause) return undefined;
  const { code = '', hostname } = cause as { code?: unknown; hostname?: string };
  // an answer of kube-apiserver, which was asked for a token: one that has just started knows no rules and no other APIs yet.
  // Without a body it is none: what ends a call that takes too long has a number, too
  if (typeof code === 'number' && 'body' in cause)
    return isLasting(code, alike) && (!met || alike >= PATIENCE) ? cause : undefined;
  const origin = originOf(endpoint);
  const permanent = (what: string): CliError => new CliError(what, EXIT.permanent, { cause: error });
  if (isCertificateCode(String(code))) return notTrusted(origin, error);
  if (wantsCertificate(cause)) return permanent(`${origin} wants a client certificate, and dvflow has none`);
  const tls = tlsCause(String(code), cause.message);
  if (tls === NO_TLS)
    return permanent(`${origin}: ${tls}: name the port that does, or http:// where it is to be so`);
  if (/^ERR_(?:INVALID|UNESCAPED)_/u.test(String(code)))
    return permanent(`nothing can be sent to ${endpoint}: ${cause.message}`);
  // a way that has led there before will again
  if (met || alike < PATIENCE) return undefined;
  if (tls !== undefined) return permanent(`${origin}: ${tls}`);
  if (code === 'HPE_INVALID_CONSTANT')
    return permanent(`${origin}: server does not speak HTTP: name the port that does, or https://`);
  // without the name it is kube-apiserver's
  if (code !== 'ENOTFOUND' || hostname === undefined) return undefined;
  const what = `no address is known for ${hostname} (ENOTFOUND)`;
  return new CliError(`${what}: the same command goes on when there is one`, EXIT.transient, {
    cause: error,
  });
}

function notTrusted(origin: string, error: unknown): CliError {
  const cure = 'name its authorities by --ca-file, or do not verify it: --insecure';
  // what follows a semicolon is Node's advice to those who start Node
  const [why] = reasonOf(error).split(';');
  const what = `the certificate of ${origin} cannot be verified (${why}): ${cure}`;
  return new CliError(what, EXIT.permanent, { cause: error });
}

function answered(error: unknown, status: number, { endpoint, alike }: Circumstances): Error | undefined {
  const permanent = (what: string): CliError => new CliError(what, EXIT.permanent, { cause: error });
  const origin = originOf(endpoint);
  if (status < 300)
    return alike < PATIENCE
      ? undefined
      : permanent(`${origin} answers HTTP ${status}, but not as one who takes uploads: is it the gateway?`);
  const target = redirectOf(error);
  if (target !== undefined)
    return permanent(
      target.origin === origin
        ? `${origin} redirects an upload (HTTP ${status}) to ${origin}${target.pathname}, and none is followed: is it the gateway?`
        : `${origin} redirects an upload (HTTP ${status}) to ${target.origin}: name that one by --uploadproxy-url`,
    );
  if (!isLasting(status, alike)) return undefined;
  return permanent(`the upload was refused: ${reasonOf(error)}`);
}

function isLasting(status: number, alike: number): boolean {
  if (status === 401) return alike >= TOKENS;
  // an offset is right at the next try, what lasts is a disk that is complete already
  if (status === 409) return alike >= PATIENCE;
  return status < 500 ? !MOMENTARY.has(status) : LASTING.has(status);
}

/** Where an answer redirects to; uploads follow no redirect, which would take the token to whoever it names. */
function redirectOf(error: unknown): URL | undefined {
  if (!(error instanceof DetailedError) || !error.originalResponse) return undefined;
  const { originalRequest, originalResponse } = error;
  const location = originalResponse.getHeader('Location');
  const status = originalResponse.getStatus();
  if (location === undefined || status < 300 || status > 399) return undefined;
  const target = URL.parse(location, originalRequest.getURL());
  return target?.protocol === 'http:' || target?.protocol === 'https:' ? target : undefined;
}

/** As the user wrote it where it is no URL. */
function originOf(endpoint: string): string {
  return URL.parse(endpoint)?.origin ?? endpoint;
}

function causeOf(error: unknown): Error | undefined {
  const cause: unknown = error instanceof DetailedError ? error.causingError : undefined;
  return cause instanceof Error ? cause : undefined;
}

/** The upload itself is refused, and not what was sent last. */
function isAnswerToHead(error: unknown): boolean {
  return error instanceof DetailedError && error.originalRequest.getMethod() === 'HEAD';
}

/** 0 where no answer has come. */
function statusOf(error: unknown): number {
  return error instanceof DetailedError ? (error.originalResponse?.getStatus() ?? 0) : 0;
}
