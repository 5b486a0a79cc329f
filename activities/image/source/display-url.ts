import { permanentFailure } from '../../failures.js';

/**
 * A URL as messages, statuses and histories may show it: no user info, no query, no fragment. Presigned URLs carry their
 * signature in the query, so nothing of it is kept. What is not a URL at all is not shown either: it may hold anything.
 */
export function displayUrl(url: string | URL): string {
  const parsed = url instanceof URL ? url : URL.parse(url);
  if (!parsed) return '(not a URL)';
  return `${parsed.protocol}//${parsed.host}${parsed.pathname}`;
}

/**
 * The address of an HTTP source, checked.
 *
 * @throws `InvalidDataVolume` when it is no absolute `http` or `https` URL.
 */
export function parseSourceUrl(url: string): URL {
  const parsed = URL.parse(url.trim());
  if (!parsed) {
    const said = /^https?:\/\/[^/]/iu.test(url.trim())
      ? 'has a host or a port that cannot be'
      : 'is not an absolute URL';
    throw permanentFailure('InvalidDataVolume', `source URL ${said}`);
  }
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') {
    const scheme = parsed.protocol.slice(0, -1);
    throw permanentFailure('InvalidDataVolume', `source URL has scheme ${scheme}, expected http or https`);
  }
  return parsed;
}

/** A URL to connect to: credentials travel in headers, where each origin gets its own, and the fragment does not travel at all. */
export function withoutUserInfo(url: URL): URL {
  const bare = new URL(url);
  bare.username = '';
  bare.password = '';
  bare.hash = '';
  return bare;
}
