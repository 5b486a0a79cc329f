import { permanentFailure } from '../failures.js';
import type { ContentType, SourceKind } from '../types.js';

/** Whose bytes can be an archive: of CDI's sources only `http` and `upload`; and a file of the command line. */
const ARCHIVE_SOURCES: readonly (SourceKind | 'file')[] = ['http', 'upload', 'file'];

/**
 * Refuses a content type that a kind of source does not have (CDI's support matrix), before anything is asked of it.
 * @throws {@link FailureType} `ContentTypeNotSupported`
 */
export function assertContentType(kind: SourceKind | 'file', contentType: ContentType | undefined): void {
  if (contentType !== 'archive' || ARCHIVE_SOURCES.includes(kind)) return;
  throw permanentFailure(
    'ContentTypeNotSupported',
    `contentType archive is not supported for source ${kind}: an archive is imported from http or https, and disk images by contentType kubevirt`,
  );
}
