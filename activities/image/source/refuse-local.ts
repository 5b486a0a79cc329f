import { permanentFailure } from '../../failures.js';
import { namesArchive } from '../registry/reference.js';
import type { SourceRequest } from './types.js';

/**
 * Refuses what lies on the machine that works for somebody else: a worker reads no file of its node for a DataVolume, whatever
 * request it is handed.
 * @throws {@link FailureType} `UnsupportedSource`
 */
export function refuseLocalFiles(request: SourceRequest): void {
  const local = request.kind === 'file' || (request.kind === 'registry' && namesArchive(request.url));
  if (!local) return;
  throw permanentFailure(
    'UnsupportedSource',
    'source names a file of the machine that imports: only the command line reads those',
  );
}
