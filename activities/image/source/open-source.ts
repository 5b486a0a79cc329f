import { createFileSource } from './file-source.js';
import { createHttpSource } from './http-source.js';
import type { ImageSource, SourceOptions, SourceRequest } from './types.js';

/**
 * Opens the source that a request means; what a kind needs is loaded when it is asked for. Nothing is sent before a method is called.
 * @throws {@link FailureType} `InvalidDataVolume` for a request that cannot be used
 */
export async function openSource(request: SourceRequest, options: SourceOptions): Promise<ImageSource> {
  switch (request.kind) {
    case 'http':
      return createHttpSource(request, options);
    case 'file':
      return createFileSource(request, options);
    case 's3':
      return (await import('./s3-source.js')).createS3Source(request, options);
    case 'gcs':
      return (await import('./gcs-source.js')).createGcsSource(request, options);
    case 'registry':
      return (await import('../registry/registry-source.js')).createRegistrySource(request, options);
  }
}
