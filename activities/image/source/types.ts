import type { SourceValidators } from '../../types.js';

/**
 * One request as the DataVolume means it, with everything secret in it. It lives in memory and in the Secret `transfer-<uid>`
 * (key `source.json`), never in a payload, heartbeat, log or status.
 */
export interface SourceRequest {
  readonly kind: 'http';
  /** As the user wrote it, user info and query included. */
  readonly url: string;
  /** Basic auth; only used when both are there (CDI's rule). */
  readonly username?: string;
  readonly password?: string;
  /** `extraHeaders`, each split at its first colon. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** `secretExtraHeaders`; sent to the user's origin only, like credentials. */
  readonly secretHeaders: readonly (readonly [name: string, value: string])[];
  /** PEM bundle, added to the system's roots. */
  readonly ca?: string;
  readonly insecureSkipVerify: boolean;
  /** `algorithm:hex`, lower case, checked for form. */
  readonly checksum?: string;
}

/** Where a source may be (`design.md` §7.8): refused ranges, then what the operator lifts or adds. */
export interface AddressPolicy {
  /** CIDRs that are allowed although they are refused by default (loopback in the local stack). */
  readonly allowed: readonly string[];
  /** CIDRs or addresses refused besides the defaults: the node's own, the API server, Temporal. */
  readonly denied: readonly string[];
  /** No default refusals: `dvflow convert` and `inspect` use their caller's own network rights. */
  readonly unrestricted?: boolean;
}

/** What the probe of a source learnt. */
export interface SourceFacts {
  /** Without user info and query. */
  readonly displayUrl: string;
  /** The server answers ranges with exact 206es. */
  readonly ranges: boolean;
  readonly validators: SourceValidators;
  /** First bytes of the source: 1 MiB, or all of a shorter one. */
  readonly head: Buffer;
}

/** Things a source says while it works: `reconnecting: connection reset (attempt 2)`. */
export type SourceNotice = (message: string) => void;

/**
 * A source of bytes that hides redirects, credentials, reconnects and the address policy. Every method rejects with a typed
 * failure (`SourceNotFound`, `SourceUnavailable`, `SourceChanged`, …) or with the signal's reason.
 */
export interface ImageSource {
  /** First request: `GET Range: bytes=0-1048575`; refused, missing and forbidden sources are known after it. */
  probe(): Promise<SourceFacts>;
  /**
   * The bytes from `start` to the end of the source, in order, without gap or repetition. Reconnects inside (by Range with
   * `If-Range`; without ranges by reading again and dropping what was delivered, if the validators are the same), so that the
   * consumer's decoder stays alive. Ends only at the true end: a short body is `SourceUnavailable` after the reconnects are spent.
   * Back-pressure: nothing is read while the consumer does not ask.
   */
  stream(start: number): AsyncIterable<Buffer>;
  /**
   * Reads exactly `[start, start + target.length)` into `target`. Needs `ranges`. Concurrent calls are fine (2 connections).
   * A 200, another Content-Range, length or validator than the probe's is `SourceChanged` or a replan (`RangesLostError`).
   */
  readInto(start: number, target: Uint8Array): Promise<void>;
  /** Bytes of bodies received so far, discarded ones included. */
  readonly bytesRead: number;
  close(): void;
}

/** The server answered 200 to a later range request: ranges are lost, the caller plans anew as one-pass. */
export class RangesLostError extends Error {
  override readonly name = 'RangesLostError';
}

/** Options of every source. */
export interface SourceOptions {
  readonly policy: AddressPolicy;
  readonly signal: AbortSignal;
  readonly notice?: SourceNotice;
  /** No byte for so long while a read is armed: `SourceUnavailable`. In ms. @default 60_000 */
  readonly stallMs?: number;
  /** Reconnects without a new byte before the source gives up. @default 5 */
  readonly maxReconnects?: number;
  /** First pause before a reconnect, in ms; it doubles with each further one without a new byte. @default 500 */
  readonly backoffMs?: number;
  /** Validators of an earlier attempt: another version is `SourceChanged`. */
  readonly expected?: SourceValidators;
}
