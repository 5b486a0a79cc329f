import { hash } from 'node:crypto';
import { resolve } from 'node:path';
import type { SourceRequest } from '../activities/image/source/types.js';

/** What signed addresses carry in their query: AWS, Google Cloud, CloudFront, Azure. The next signature is for the same file. */
const SIGNATURE =
  /^(?:x-(?:amz|goog)-.+|awsaccesskeyid|googleaccessid|signature|expires|policy|key-pair-id|token|s(?:[eprtv]|ig|ip|pr|ks|kt|kv|ke|koid|ktid))$/iu;

/**
 * Digest of what a request asks for, without credentials and signatures: an ETag tells versions of one file apart, not one file from
 * another (RFC 9110 §8.8.1), so that disks of one machine, or builds with one date, may share all that a server says of them.
 */
export function sourceIdentity(request: SourceRequest): string {
  return hash('sha256', JSON.stringify([request.kind, ...partsOf(request)]));
}

function partsOf(request: SourceRequest): readonly string[] {
  if (request.kind === 'file') return [resolve(request.path)];
  if (request.kind === 'registry') return [request.url.trim(), request.architecture ?? ''];
  const address = URL.parse(request.url.trim());
  if (!address) return [request.url];
  const query = [...address.searchParams].filter(([key]) => !SIGNATURE.test(key)).flat();
  return [address.protocol, address.host, address.pathname, ...query];
}
