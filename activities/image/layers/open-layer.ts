import type { ImageSource, RestartPoint } from '../source/types.js';
import type { Container } from '../../types.js';
import { openCompressed } from './compressed.js';
import { gunzip } from './gzip.js';
import { openXz } from './xz.js';
import { unzstd } from './zstd.js';

/** Compressors and archives that wrap an image. */
export type Layer = Exclude<Container, 'oci'>;

/**
 * The bytes inside a container as a source of its own; readers of archives are loaded when there is one. `from` is where an earlier attempt left a compressed stream.
 * @throws {@link FailureType} `ImageInvalid`, `ImageHostile`, `UnsupportedFormat`
 */
export async function openLayer(layer: Layer, inner: ImageSource, from?: RestartPoint): Promise<ImageSource> {
  switch (layer) {
    case 'gz':
      return await openCompressed(inner, gunzip, from);
    case 'zst':
      return await openCompressed(inner, unzstd, from);
    case 'xz':
      return await openXz(inner);
    case 'zip':
      return await (await import('../archive/zip-layer.js')).openZipLayer(inner);
    case 'tar':
      return await (await import('../archive/tar-layer.js')).openTarLayer(inner);
  }
}
