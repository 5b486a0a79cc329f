import type { ImageSource, RestartPoint } from '../source/types.js';
import type { Container } from '../../types.js';
import type { openCompressed } from './compressed.js';

/** Compressors and archives that wrap an image. */
export type Layer = Exclude<Container, 'oci'>;

/**
 * The bytes inside a container as a source of its own; what reads it is loaded when there is one. `from` is where an earlier attempt left a compressed stream.
 * Closing it ends what it has begun, and leaves `inner` open.
 * @throws {@link FailureType} `ImageInvalid`, `ImageHostile`, `UnsupportedFormat`
 */
export async function openLayer(layer: Layer, inner: ImageSource, from?: RestartPoint): Promise<ImageSource> {
  switch (layer) {
    case 'gz':
      return await openStream(inner, (await import('./gzip.js')).gunzip, from);
    case 'zst':
      return await openStream(inner, (await import('./zstd.js')).unzstd, from);
    case 'xz':
      return await (await import('./xz.js')).openXz(inner);
    case 'zip':
      return await (await import('../archive/zip-layer.js')).openZipLayer(inner);
    case 'tar':
      return await (await import('../archive/tar-layer.js')).openTarLayer(inner);
  }
}

async function openStream(...args: Parameters<typeof openCompressed>): Promise<ImageSource> {
  return await (await import('./compressed.js')).openCompressed(...args);
}
