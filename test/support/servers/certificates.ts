import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { ServerTls } from './server.js';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const WEAK = {
  name: 'RSASSA-PKCS1-v1_5',
  hash: 'SHA-256',
  modulusLength: 1024,
  publicExponent: new Uint8Array([1, 0, 1]),
};
type KeyAlgorithm = typeof ALGORITHM | typeof WEAK;
const DAY_MS = 86_400_000;

/** What is wrong with a certificate. */
export interface IssueOptions {
  readonly expired?: boolean;
  readonly weak?: 'key' | 'digest';
}

/** A certificate authority of a test. */
export interface TestAuthority {
  /** Its certificate, in PEM. */
  readonly ca: string;
  /**
   * Key and certificate for names (`localhost`); `expired`: valid until yesterday; `weak`: a key of 1024 bits, or a signature over
   * SHA-1.
   */
  issue(names: readonly string[], options?: IssueOptions): Promise<ServerTls>;
}

/**
 * Makes an authority that nobody trusts unless told to. Two that are trusted together need a name each: OpenSSL finds the issuer
 * of a certificate by it.
 */
export async function createAuthority(name = 'Test authority'): Promise<TestAuthority> {
  const keys = await newKeys();
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity(false),
    serialNumber: '01',
    name: `CN=${name}`,
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  });
  let serial = 1;
  return {
    ca: root.toString('pem'),
    async issue(names, { expired = false, weak } = {}) {
      const own = await newKeys(weak === 'key' ? WEAK : ALGORITHM);
      serial += 1;
      const certificate = await x509.X509CertificateGenerator.create({
        ...validity(expired),
        serialNumber: serial.toString(16).padStart(2, '0'),
        subject: `CN=${names[0] ?? ''}`,
        issuer: root.subject,
        publicKey: own.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: weak === 'digest' ? { ...ALGORITHM, hash: 'SHA-1' } : ALGORITHM,
        extensions: [alternativeNames(names)],
      });
      const made = { key: await pemOf(own.privateKey), cert: certificate.toString('pem') };
      // else the server itself would not load it
      return weak === undefined ? made : { ...made, ciphers: 'DEFAULT@SECLEVEL=0' };
    },
  };
}

/** A server's certificate that is signed by itself. */
export async function createSelfSigned(names: readonly string[]): Promise<ServerTls> {
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity(false),
    serialNumber: '01',
    name: `CN=${names[0] ?? ''}`,
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [alternativeNames(names)],
  });
  return { key: await pemOf(keys.privateKey), cert: certificate.toString('pem') };
}

function alternativeNames(names: readonly string[]): x509.SubjectAlternativeNameExtension {
  return new x509.SubjectAlternativeNameExtension(names.map((value) => ({ type: 'dns', value })));
}

function validity(expired: boolean): { notBefore: Date; notAfter: Date } {
  const now = Date.now();
  return { notBefore: new Date(now - 10 * DAY_MS), notAfter: new Date(now + (expired ? -1 : 1) * DAY_MS) };
}

function newKeys(algorithm: KeyAlgorithm = ALGORITHM): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
}

async function pemOf(key: webcrypto.CryptoKey): Promise<string> {
  const der = await webcrypto.subtle.exportKey('pkcs8', key);
  return x509.PemConverter.encode(der, 'PRIVATE KEY');
}
