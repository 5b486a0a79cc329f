/** dvflow's own authority and the certificates that it issues: by these, and by nothing else, data ports and their clients know each other. */
import 'reflect-metadata'; // @peculiar/x509 throws on import without it
import { randomBytes, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { DataPortPeer } from '../../activities/types/data-port.js';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const DAY_MS = 86_400_000;
const SERVER = '1.3.6.1.5.5.7.3.1';
const CLIENT = '1.3.6.1.5.5.7.3.2';

/** How long an authority is valid, in ms: ten years. It is replaced by emptying its Secret. */
export const AUTHORITY_MS = 3650 * DAY_MS;
/** How long a leaf is valid, in ms: 90 days; renewed when a third of it is left. */
export const LEAF_MS = 90 * DAY_MS;

/**
 * Names under which peers serve: a node's is known by its name wherever it is, the gateway by those of its Service and, for
 * `kubectl port-forward` and the local stack, this machine's.
 */
const NAMES: Readonly<Record<DataPortPeer, x509.JsonGeneralNames>> = {
  'dvflow-node': [{ type: 'dns', value: 'dvflow-node' }],
  'dvflow-gateway': [
    { type: 'dns', value: 'dvflow-gateway' },
    { type: 'dns', value: 'dvflow-gateway.dvflow' },
    { type: 'dns', value: 'dvflow-gateway.dvflow.svc' },
    { type: 'dns', value: 'localhost' },
    { type: 'ip', value: '127.0.0.1' },
  ],
};

/** A certificate and its key (PKCS #8), both PEM. */
export interface Issued {
  readonly cert: string;
  readonly key: string;
}

/** Makes an authority, P-256, for leaves only. */
export async function createAuthority(now = new Date()): Promise<Issued> {
  x509.cryptoProvider.set(webcrypto);
  const keys = await generateKeys();
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity(now, AUTHORITY_MS),
    // two authorities of one name would be taken for one another where both are trusted
    name: `CN=dvflow data ports ${randomBytes(4).toString('hex')}`,
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return await issued(authority, keys.privateKey);
}

/**
 * Issues the certificate of a peer: its common name is what a data port lets in by. A node serves its data port with it under the DNS
 * name `dvflow-node`, the gateway its own port under the names of its Service.
 */
export async function issueLeaf(authority: Issued, peer: DataPortPeer, now = new Date()): Promise<Issued> {
  x509.cryptoProvider.set(webcrypto);
  const issuer = new x509.X509Certificate(authority.cert);
  const bytes = x509.PemConverter.decodeFirst(authority.key);
  const signingKey = await webcrypto.subtle.importKey('pkcs8', bytes, ALGORITHM, false, ['sign']);
  const keys = await generateKeys();
  const leaf = await x509.X509CertificateGenerator.create({
    ...validity(now, LEAF_MS),
    subject: `CN=${peer}`,
    issuer: issuer.subject,
    publicKey: keys.publicKey,
    signingKey,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([SERVER, CLIENT]),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
      new x509.SubjectAlternativeNameExtension([...NAMES[peer]]),
    ],
  });
  return await issued(leaf, keys.privateKey);
}

function validity(now: Date, ms: number): { serialNumber: string; notBefore: Date; notAfter: Date } {
  // clocks differ
  const notBefore = new Date(now.getTime() - 60_000);
  // RFC 5280 §4.1.2.2: positive, so the first bit stays clear
  const serialNumber = `4${randomBytes(15).toString('hex').slice(1)}`;
  return { serialNumber, notBefore, notAfter: new Date(now.getTime() + ms) };
}

async function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

async function issued(certificate: x509.X509Certificate, key: webcrypto.CryptoKey): Promise<Issued> {
  const pkcs8 = await webcrypto.subtle.exportKey('pkcs8', key);
  return {
    cert: `${certificate.toString('pem')}\n`,
    key: `${x509.PemConverter.encode(pkcs8, 'PRIVATE KEY')}\n`,
  };
}
