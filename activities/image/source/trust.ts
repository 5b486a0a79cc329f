import type { SecureContext } from 'node:tls';
import { permanentFailure } from '../../failures.js';
import { crypto, tls } from './node-http.js';

/**
 * Whom a client trusts: the system's roots and the certificates of bundles; TLS 1.2 or later. The bundles are checked at once,
 * the context made when it is asked for: reading hundreds of roots takes its time.
 *
 * @param bundles PEM bundles by the names that messages give them: `CA bundle`
 * @throws `InvalidDataVolume` when a bundle holds no certificate or one that cannot be read.
 */
export function createTrust(bundles: Readonly<Record<string, string | undefined>>): () => SecureContext {
  const own = Object.entries(bundles).flatMap(([whose, bundle]) =>
    bundle === undefined ? [] : certificatesIn(bundle, whose),
  );
  let context: SecureContext | undefined;
  return () => (context ??= secureContextOf(own));
}

function secureContextOf(own: readonly string[]): SecureContext {
  const { createSecureContext, getCACertificates } = tls();
  const roots = new Set([...getCACertificates('default'), ...getCACertificates('system')]);
  // as Go does it: each certificate that is trusted ends the chain, also one that another has signed
  return createSecureContext({ ca: [...roots, ...own], allowPartialTrustChain: true, minVersion: 'TLSv1.2' });
}

/** Each certificate of a bundle, proven to be one: OpenSSL would leave out what it cannot read without a word. */
function certificatesIn(bundle: string, whose: string): string[] {
  const blocks = bundle.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/gu) ?? [];
  if (blocks.length === 0) throw permanentFailure('InvalidDataVolume', `${whose} holds no PEM certificate`);
  const { X509Certificate } = crypto();
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block).toString();
    } catch (error) {
      const text = `${whose}: certificate ${index + 1} of ${blocks.length} cannot be read`;
      throw permanentFailure('InvalidDataVolume', text, error);
    }
  });
}
