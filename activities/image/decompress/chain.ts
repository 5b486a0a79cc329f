import type { Compression } from '../../types.js';
import { gunzip } from './gzip.js';
import { unxz } from './xz.js';

/** The bytes inside `compression`, outermost first. */
export function decompress(
  source: AsyncIterable<Buffer>,
  compression: readonly Compression[],
): AsyncIterable<Buffer> {
  return compression.reduce((bytes, layer) => (layer === 'gz' ? gunzip(bytes) : unxz(bytes)), source);
}
