import { hash } from 'node:crypto';
import { resolve } from 'node:path';
import type { SourceRequest } from '../activities/image/source/types.js';

/** What signed addresses carry in their query, beside the key that tells of the scheme. The next signature is for the same file. */
const SIGNATURES: readonly { readonly scheme: RegExp; readonly keys: RegExp }[] = [
  // AWS and Google Cloud, version 4
  { scheme: /^x-(?:amz|goog)-signature$/iu, keys: /^x-(?:amz|goog)-/iu },
  // AWS, CloudFront and Google Cloud of before
  {
    scheme: /^(?:awsaccesskeyid|key-pair-id|googleaccessid)$/iu,
    keys: /^(?:awsaccesskeyid|key-pair-id|googleaccessid|signature|expires|policy|x-amz-security-token)$/iu,
  },
  // Azure
  { scheme: /^sig$/iu, keys: /^s(?:[eprtv]|ig|ip|pr|ks|kt|kv|ke|koid|ktid)$/iu },
];

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
  // names of objects are taken letter by letter
  const address = request.kind === 'http' ? URL.parse(request.url.trim()) : undefined;
  if (!address) return [request.url.trim()];
  const query = [...address.searchParams];
  const signed = SIGNATURES.filter(({ scheme }) => query.some(([key]) => scheme.test(key)));
  const rest = query.filter(([key]) => !signed.some(({ keys }) => keys.test(key))).flat();
  return [address.protocol, address.host, address.pathname, ...rest];
}
