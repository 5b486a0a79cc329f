/** How much may be sent into one claim. */
import { mostImageBytes } from '../../activities/image/source/bounded.js';
import type { UploadClaim } from './upload-claims.js';
import { UploadError } from './upload-failures.js';

/** A limit and its reason. */
export interface ByteLimit {
  readonly limitBytes: number;
  readonly limitReason: string;
}

/**
 * A bound against bodies without end, and no judgement: a qcow2 that fits may be long by its snapshots, so that only the node, which
 * reads it, can say what does not fit. The node ends an image at the same length (`boundedBy`), so that nothing is refused here that it
 * would take; of an archive it counts what is unpacked only. A volume may be larger than its claim asks for.
 */
export function byteLimit({ namespace, name, requestBytes, capacityBytes = 0 }: UploadClaim): ByteLimit {
  const bytes = Math.max(requestBytes, capacityBytes);
  const limitBytes = mostImageBytes(bytes);
  const has = capacityBytes > requestBytes ? 'holds' : 'asks for';
  return {
    limitBytes,
    limitReason: `claim ${namespace}/${name} ${has} ${bytes} bytes, so that at most ${limitBytes} bytes are taken`,
  };
}

/** Refuses a file that is announced to be longer. @throws UploadError with this status */
export function assertAllowed(length: number, claim: UploadClaim, status: number): void {
  const { limitBytes, limitReason } = byteLimit(claim);
  if (length <= limitBytes) return;
  throw new UploadError(status, `an upload of ${length} bytes is larger than allowed: ${limitReason}`);
}
