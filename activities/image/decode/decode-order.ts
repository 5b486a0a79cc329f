import { createClusterDecoder } from './cluster-decoder.js';
import { ENTRY_NUMBERS, type DecodeReport, type DecodeThreadData } from './decode-protocol.js';

/**
 * Carries out orders on this thread; each answers with the first cluster that could not be decoded, if any. Once `isStopped` says so,
 * before any cluster, nobody hears the answer.
 */
export function createOrderDecoder(
  { compression, memory, native }: DecodeThreadData,
  isStopped = () => false,
): (entries: Float64Array) => DecodeReport['failed'] {
  const decode = createClusterDecoder(compression, native);
  return (entries) => {
    for (let at = 0; at < entries.length && !isStopped(); at += ENTRY_NUMBERS) {
      const [inputOffset = 0, inputLength = 0, outputOffset = 0, outputLength = 0] = entries.subarray(at);
      const input = new Uint8Array(memory, inputOffset, inputLength);
      const output = new Uint8Array(memory, outputOffset, outputLength);
      const outcome = decode(input, output);
      if (outcome !== 'ok') return { index: at / ENTRY_NUMBERS, outcome };
    }
    return undefined;
  };
}
