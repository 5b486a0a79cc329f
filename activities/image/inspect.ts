import { transientFailure } from '../failures.js';
import type { ContentType, ImageFacts } from '../types.js';
import { planSteadily } from './plan-image.js';
import { displayUrl } from './source/display-url.js';
import { openSource } from './source/open-source.js';
import { refuseLocalFiles } from './source/refuse-local.js';
import type { AddressPolicy, ImageSource, SourceRequest } from './source/types.js';

/** Silence for so long ends a try: nothing depends on an inspection yet, and whoever waits for it is to hear of it soon. In ms. */
const STALL_MS = 30_000;
/** Further tries inside of one inspection; a whole inspection is tried again by Temporal, where a person sees it. */
const RECONNECTS = 2;
/** Of one inspection, in ms: so far below the activity's timeout of 5 minutes that it ends with a failure of its own. */
const LIMIT_MS = 240_000;

/** How long one inspection waits. */
export interface InspectPatience {
  /** @default 30_000 */
  readonly stallMs?: number;
  /** For the whole inspection, whatever moves meanwhile. @default 240_000 */
  readonly limitMs?: number;
}

/** What a source is inspected for. */
export interface InspectOptions {
  readonly request: SourceRequest;
  readonly policy: AddressPolicy;
  readonly signal: AbortSignal;
  /** @default 'kubevirt' */
  readonly contentType?: ContentType | undefined;
  readonly target: {
    readonly usableBytes: number;
    readonly overhead: number;
    readonly api: 'pvc' | 'storage';
    readonly requestBytes: number;
  };
  /** `namespace/name` of the claim, for messages. */
  readonly claimName: string;
  readonly patience?: InspectPatience | undefined;
}

/**
 * Looks at a source before anything is allocated: reaches it, tells its format, makes the read plan, compares sizes; of a qcow2
 * behind ranges the L1 table is checked too, of a container image its labels are read. It ends within {@link InspectPatience}, also
 * where the source trickles.
 * @throws {@link FailureType} `SourceNotFound`, `SourceForbidden`, `SourceCertificateInvalid`, `SourceNotAllowed`, `ImageInvalid`,
 * `ImageHostile`, `UnsupportedSource`, `UnsupportedFormat`, `ContentTypeNotSupported`, `LargerPVCRequired`; retried:
 * `SourceUnavailable`
 */
export async function inspectImage(options: InspectOptions): Promise<ImageFacts> {
  const { request, policy, signal, patience = {} } = options;
  const { stallMs = STALL_MS, limitMs = LIMIT_MS } = patience;
  refuseLocalFiles(request);
  const limit = new AbortController();
  const source = await openSource(request, {
    policy,
    signal: AbortSignal.any([signal, limit.signal]),
    stallMs,
    maxReconnects: RECONNECTS,
  });
  const timer = setTimeout(() => limit.abort(), limitMs);
  try {
    return await factsOf(source, options);
  } catch (error) {
    signal.throwIfAborted();
    // whatever the end looked like to who was reading
    throw limit.signal.aborted ? tooLong(request, limitMs, source) : error;
  } finally {
    clearTimeout(timer);
    source.close();
  }
}

async function factsOf(
  source: ImageSource,
  { request, contentType, target, claimName }: InspectOptions,
): Promise<ImageFacts> {
  const { usableBytes, overhead, api } = target;
  using planned = await planSteadily(source, {
    checksum: request.checksum,
    contentType,
    target: { claimName, usableBytes, overhead, api },
    // whoever asks finds the need among the facts, and decides
    scratch: true,
  });
  const { facts } = planned;
  const labels = (await source.labels?.()) ?? {};
  const architecture = await source.architecture?.();
  return {
    ...facts,
    ...(Object.keys(labels).length === 0 ? {} : { labels }),
    ...(architecture === undefined ? {} : { architecture }),
  };
}

function tooLong(request: SourceRequest, limitMs: number, { bytesRead }: ImageSource): Error {
  const where = request.kind === 'file' ? request.path : displayUrl(request.url);
  return transientFailure(
    'SourceUnavailable',
    `GET ${where}: the inspection did not end within ${limitMs / 1000} s, in which ${bytesRead} bytes came`,
  );
}
