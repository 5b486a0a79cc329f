import type { ContentType, ImageFacts } from '../types.js';
import { planSteadily } from './plan-image.js';
import { openSource } from './source/open-source.js';
import { refuseLocalFiles } from './source/refuse-local.js';
import type { AddressPolicy, SourceRequest } from './source/types.js';

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
}

/**
 * Looks at a source before anything is allocated: reaches it, tells its format, makes the read plan, compares sizes; of a qcow2
 * behind ranges the L1 table is checked too, of a container image its labels are read.
 * @throws {@link FailureType} `SourceNotFound`, `SourceForbidden`, `SourceCertificateInvalid`, `SourceNotAllowed`, `ImageInvalid`,
 * `ImageHostile`, `UnsupportedSource`, `UnsupportedFormat`, `ContentTypeNotSupported`, `LargerPVCRequired`; retried:
 * `SourceUnavailable`
 */
export async function inspectImage({
  request,
  policy,
  signal,
  contentType,
  target,
  claimName,
}: InspectOptions): Promise<ImageFacts> {
  refuseLocalFiles(request);
  const source = await openSource(request, { policy, signal });
  try {
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
    return Object.keys(labels).length === 0 ? facts : { ...facts, labels };
  } finally {
    source.close();
  }
}
