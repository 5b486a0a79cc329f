import type { ClaimRef, ImportResult, TransferResult } from '../activities/types.js';

/** What a run answers that has filled a volume with somebody's bytes; `volume` is left out where it is its user's claim that has one. */
export function resultOf(
  made: { readonly claim: ClaimRef; readonly volume?: string; readonly node: string },
  { virtualSize, bytesTransferred, bytesWritten, checksum }: TransferResult,
): ImportResult {
  const { claim, volume, node } = made;
  return {
    claim: { namespace: claim.namespace, name: claim.name },
    ...(volume === undefined ? {} : { volume }),
    node,
    virtualSize,
    bytesTransferred,
    bytesWritten,
    ...(checksum === undefined ? {} : { checksum }),
  };
}
