import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { TlsFiles } from '../../activities/data-port/tls.js';
import type { Issued } from './certificates.js';

/** Whether a pair is whole and far enough from its end: more than a third of its time is left. */
export function isFresh(pair: Partial<Issued>, now: number): boolean {
  const certificate = parse(pair.cert);
  if (!certificate || !belongs(certificate, pair.key)) return false;
  const [from, to] = [Date.parse(certificate.validFrom), Date.parse(certificate.validTo)];
  return to - now > (to - from) / 3;
}

/** Whether a leaf is fresh, of this authority, and trusts it. */
export function isCurrent(leaf: Partial<TlsFiles>, authority: Issued, now: number): boolean {
  const issuer = parse(authority.cert);
  const own = parse(leaf.cert);
  if (!issuer || !own || !isFresh(leaf, now)) return false;
  return own.verify(issuer.publicKey) && trusts(leaf, authority);
}

/** The authority other than this one by which a leaf still proves itself to all who trust what it trusts; `undefined` where it does not. */
export function issuerBefore(leaf: Partial<TlsFiles>, authority: Issued, now: number): string | undefined {
  const own = parse(leaf.cert);
  if (!own || !belongs(own, leaf.key) || Date.parse(own.validTo) <= now) return undefined;
  const issuer = certificatesIn(leaf.ca).find((pem) => {
    const known = parse(pem);
    return known !== undefined && Date.parse(known.validTo) > now && own.verify(known.publicKey);
  });
  return issuer === authority.cert.trim() ? undefined : issuer;
}

/** Whether an authority is among those that a leaf's peer trusts. */
export function trusts({ ca }: Partial<TlsFiles>, authority: Issued): boolean {
  return certificatesIn(ca).includes(authority.cert.trim());
}

/** What is trusted from now on: the authority, and the first of those of before that is still valid, so that peers may be renewed one by one. */
export function trusted(authority: Issued, before: string | undefined, now: number): string {
  const others = certificatesIn(before).filter((pem) => {
    const known = parse(pem);
    return pem !== authority.cert.trim() && known !== undefined && Date.parse(known.validTo) > now;
  });
  // the newest two: one authority after another, never a list that only grows
  return [authority.cert.trim(), ...others.slice(0, 1), ''].join('\n');
}

function certificatesIn(pem = ''): readonly string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
}

function parse(pem: string | undefined): X509Certificate | undefined {
  try {
    return pem ? new X509Certificate(pem) : undefined;
  } catch {
    return undefined;
  }
}

function belongs(certificate: X509Certificate, key: string | undefined): boolean {
  try {
    return key !== undefined && certificate.checkPrivateKey(createPrivateKey(key));
  } catch {
    return false;
  }
}
