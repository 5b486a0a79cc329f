import type { ImageFacts } from '../types.js';
import { planImage } from './probe.js';
import { createHttpSource } from './source/http-source.js';
import type { AddressPolicy, SourceRequest } from './source/types.js';

/** What a source is inspected for. */
export interface InspectOptions {
  readonly request: SourceRequest;
  readonly policy: AddressPolicy;
  readonly signal: AbortSignal;
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
 * behind ranges the L1 table is checked too.
 * @throws {@link FailureType} `SourceNotFound`, `SourceForbidden`, `SourceCertificateInvalid`, `SourceNotAllowed`, `ImageInvalid`,
 * `ImageHostile`, `UnsupportedFormat`, `ScratchSpaceRequired`, `LargerPVCRequired`; retried: `SourceUnavailable`
 */
export async function inspectImage({
  request,
  policy,
  signal,
  target,
  claimName,
}: InspectOptions): Promise<ImageFacts> {
  const source = createHttpSource(request, { policy, signal });
  try {
    const { usableBytes, overhead, api } = target;
    return await planImage(await source.probe(), source, {
      checksum: request.checksum !== undefined,
      target: { claimName, usableBytes, overhead, api },
    });
  } finally {
    source.close();
  }
}
