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

/** No file that fits into the claim is larger than this. */
export function byteLimit({ namespace, name, requestBytes }: UploadClaim): ByteLimit {
  const limitBytes = Math.ceil(requestBytes * (1 + FORMAT_SHARE)) + FORMAT_BYTES;
  return {
    limitBytes,
    limitReason: `claim ${namespace}/${name} asks for ${requestBytes} bytes, so that at most ${limitBytes} bytes are taken`,
  };
}
