import type { IncomingHttpHeaders } from 'node:http';
import type { Container, SourceValidators } from '../../types.js';

/**
 * One request as the DataVolume means it, with everything secret in it. It lives in memory and in the Secret `transfer-<uid>`
 * (key `source.json`), never in a payload, heartbeat, log or status.
 */
export type SourceRequest = HttpRequest | S3Request | GcsRequest | RegistryRequest | FileRequest;

/** What requests to every server have. */
interface NetworkRequest {
  /** PEM bundle, added to the system's roots. */
  readonly ca?: string;
  /** `algorithm:hex` of the bytes as served, lower case, checked for form. */
  readonly checksum?: string;
  readonly proxy?: ProxySettings;
}

/** CDI's `importProxy`: by which server requests go. */
export interface ProxySettings {
  /** Proxy of `http:` addresses; its URL may hold credentials. */
  readonly http?: string;
  /** Proxy of `https:` addresses. */
  readonly https?: string;
  /** Hosts, domains, addresses and CIDRs that are asked directly, comma separated, by the rules of Go's `httpproxy`. */
  readonly noProxy?: string;
  /** PEM bundle, added to the system's roots for the proxies and for every server behind them or without them. */
  readonly ca?: string;
}

/** `source.s3`: an object by `s3://bucket/key` or by its address at an endpoint. */
export interface S3Request extends NetworkRequest {
  readonly kind: 's3';
  readonly url: string;
  /** Both absent: `ambient` credentials, or anonymous. */
  readonly accessKeyId?: string;
  readonly secretKey?: string;
  /**
   * What this process can authenticate with by itself is used where the request names no keys: environment, shared AWS
   * configuration, web identity, pod identity, instance profile. They are the process's and not the tenant's, so a DataVolume
   * has them only where the operator says so; the command line always does. @default false
   */
  readonly ambient?: boolean;
}

/** `source.gcs`: an object by `gs://bucket/object`, or by the address of an endpoint. */
export interface GcsRequest extends NetworkRequest {
  readonly kind: 'gcs';
  readonly url: string;
  /** The JSON of a service account's key; absent: anonymous. */
  readonly credentials?: string;
}

/** `source.registry`: a container disk, by `docker://host/repository:tag` or `oci-archive:path[:tag]`. */
export interface RegistryRequest extends NetworkRequest {
  readonly kind: 'registry';
  readonly url: string;
  readonly username?: string;
  readonly password?: string;
  /** Content of a `.dockerconfigjson`, used where the two above are absent. */
  readonly dockerConfig?: string;
  /** The registry may be asked by plain HTTP, and its certificate is not verified (CDIConfig `insecureRegistries`). */
  readonly insecure: boolean;
  /** `platform.architecture`: an image for another one is refused. */
  readonly architecture?: string;
  /** Chosen out of several where none is named, before the only one that there is. @default that of this machine */
  readonly defaultArchitecture?: string;
}

/** A local file; from the command line only. */
export interface FileRequest {
  readonly kind: 'file';
  readonly path: string;
  readonly checksum?: string;
}

/** `source.http`. */
export interface HttpRequest extends NetworkRequest {
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
  readonly insecureSkipVerify: boolean;
}

/** Where the way to a source begins, and what opens the door there. */
export interface Entrance {
  readonly url: URL;
  /** Sent to that URL's origin only. */
  readonly headers: Readonly<Record<string, string>>;
}

/** A redirect's target as messages name it: its path and query may hold a signature. */
export interface RedirectTarget {
  /** Scheme, host and port. */
  readonly origin: string;
  /** The user has given credentials, and they were not sent there. */
  readonly withheld: boolean;
}

/** The answer by which an entrance was refused. */
export interface Refusal {
  readonly status: number;
  /** Whose answer it is, where redirects led to another address. */
  readonly redirected?: RedirectTarget;
  readonly headers: IncomingHttpHeaders;
  /** Reads the beginning of its body, once; what cannot be read is left out. */
  readonly beginning?: () => Promise<string>;
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
  /** `readInto` works: a server that answers ranges with exact 206es, a local file, a stored entry of an archive behind ranges. */
  readonly ranges: boolean;
  /**
   * What ranges give is proved by nothing: only the end of a stream from the first byte is (the CRC-32 of a file that a zip
   * stores). They serve for tables, or are followed by such a stream.
   */
  readonly provedInOrder?: boolean;
  /** `stream` can begin in the middle without fetching what lies before; so with `ranges`, unless `provedInOrder`. */
  readonly seekable: boolean;
  /** Containers that the source has taken off by itself, outermost first. */
  readonly containers?: readonly Container[];
  readonly validators: SourceValidators;
  /** The server tells no length, and ends its answer by closing the connection: one that breaks off in good order looks whole. */
  readonly endUnproved?: boolean;
  /** First bytes of the source: 1 MiB, or all of a shorter one. */
  readonly head: Buffer;
}

/** Things a source says while it works: `reconnecting: connection reset (attempt 2)`. */
export type SourceNotice = (message: string) => void;

/** A place inside a compressed stream where decoding can begin anew: the start of a gzip member, a zstd frame, an xz block. */
export interface RestartPoint {
  /** Offset in the compressed bytes. */
  readonly inner: number;
  /** Offset in the decompressed bytes. */
  readonly outer: number;
}

/** What a reader may gather of the chunks of a stream without copying them: the largest cluster of a qcow2. In bytes. */
export const KEPT_BYTES = 2 * 1024 * 1024;

/**
 * A source of bytes that hides redirects, credentials, reconnects and the address policy; a compressor or an archive around an
 * image is such a source too, made of the one around it. Every method rejects with a typed failure (`SourceNotFound`,
 * `SourceUnavailable`, `SourceChanged`, `ImageInvalid`, …) or with the signal's reason.
 */
export interface ImageSource {
  /** First request: `GET Range: bytes=0-1048575`; refused, missing and forbidden sources are known after it. */
  probe(): Promise<SourceFacts>;
  /**
   * The bytes from `start` to the end of the source, in order, without gap or repetition. Reconnects inside (by Range with
   * `If-Range`; without ranges by reading again and dropping what was delivered, if the validators are the same), so that the
   * consumer's decoder stays alive. Ends only at the true end: a short body is `SourceUnavailable` after the reconnects are spent.
   * Back-pressure: nothing is read while the consumer does not ask. A chunk may be used until the next but one is asked for, and
   * while no more than `KEPT_BYTES` have followed it: whoever gathers more than that copies.
   * A source made of another one ends only after that one has ended, so that what is proved by all bytes (a checksum, a blob's
   * digest) is proved.
   */
  stream(start: number): AsyncIterable<Buffer>;
  /**
   * Reads exactly `[start, start + target.length)` into `target`. Needs `ranges`. Many concurrent calls are welcome: they are
   * pipelined over two connections. `target` may be shared memory.
   * A 200, another Content-Range, length or validator than the probe's is `SourceChanged` or a replan (`RangesLostError`).
   */
  readInto(start: number, target: Uint8Array): Promise<void>;
  /** The last place at or before `outer`, an offset of this source's bytes, where a later attempt can begin; from compressors only. */
  restartPoint?(outer: number): RestartPoint | undefined;
  /** Kubernetes labels that the source asks for; of container images only. */
  labels?(): Promise<Readonly<Record<string, string>>>;
  /** Architecture by which the image was chosen, in Go's spelling, as far as it is known; of container images only. */
  architecture?(): Promise<string | undefined>;
  /** Stretches between two offsets that hold data, in order; what they leave out reads as zeros. Of volumes only. */
  stretches?(start: number, end: number): Promise<readonly Stretch[]>;
  /** The source is a file of this machine, which the kernel can copy from. */
  readonly kernel?: KernelCopy;
  /** Holds itself to the request's checksum, which is not one of the bytes that it delivers; of container images only. */
  readonly verifiesItself?: true;
  /**
   * The same source without ranges, asked for once as a whole, so that no two answers can contradict each other about its version.
   * One that is asked for again after a lost connection is held to the first; of a container image, to the layer's digest. Closed
   * with this source. Of servers only.
   */
  inOneAnswer?(): ImageSource;
  /** Proves, when all is read, that all of it was one state of the source. */
  settle?(): Promise<void>;
  /**
   * Of a volume that is read as an archive: what tells its state from another, as it was read, or as it is where nothing was read yet;
   * `undefined` where that is not known.
   */
  state?(): Promise<string | undefined>;
  /** Bytes of bodies received so far, discarded ones included. */
  readonly bytesRead: number;
  close(): void;
}

/** Bytes of a source, from one offset to before another. */
export interface Stretch {
  readonly start: number;
  readonly end: number;
}

/** Copies that never leave the kernel, into an open file. */
export interface KernelCopy {
  /** Makes it share all blocks; resolves to the system's error where that is not possible. */
  reflink(to: number): string | undefined;
  /** Copies a stretch to the same offset; as many bytes as it did at once. @throws error with the system's `code` */
  copy(to: number, stretch: Stretch): Promise<number>;
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
  /**
   * Whoever reads the source lets nothing rest on its bytes before all of them are held to a digest that was known beforehand.
   * Answers then have to agree about the length alone: the machines behind one name may have validators of their own for the same
   * bytes. @default false
   */
  readonly provedByDigest?: boolean;
  /** An earlier attempt has read from here: what a redirect's target refuses now is not final. @default whether `expected` is given */
  readonly succeededBefore?: boolean;
  /**
   * Asked before each request to the source's own address, for signatures and tokens that end. Asked anew, once, after the
   * address itself has answered 400, 401, 403, a redirect to nowhere or to another region: `refused`, with the answer.
   * @default the request's URL, without headers
   */
  readonly entrance?: (refused: boolean, refusal?: Refusal) => Promise<Entrance>;
  /** Read ranges with many requests under way on sockets of our own; false: one request after another by node:http. @default true */
  readonly pipelining?: boolean;
  /** Address for messages. @default the request's URL without user info and query */
  readonly displayUrl?: string;
}
