/** How much may be sent into one claim. */
import type { UploadClaim } from './upload-claims.js';

/** What formats may add to the data of a full disk: tables of images, headers of archives. */
const FORMAT_SHARE = 1 / 8;
const FORMAT_BYTES = 64 * 1024 * 1024;

/** A limit and its reason. */
export interface ByteLimit {
  readonly limitBytes: number;
  readonly limitReason: string;
}

/** No file that fits into the claim is larger than this. A volume may be larger than its claim asks for. */
export function byteLimit({ namespace, name, requestBytes, capacityBytes = 0 }: UploadClaim): ByteLimit {
  const bytes = Math.max(requestBytes, capacityBytes);
  const limitBytes = Math.ceil(bytes * (1 + FORMAT_SHARE)) + FORMAT_BYTES;
  const has = capacityBytes > requestBytes ? 'holds' : 'asks for';
  return {
    limitBytes,
    limitReason: `claim ${namespace}/${name} ${has} ${bytes} bytes, so that at most ${limitBytes} bytes are taken`,
  };
}
