import 'reflect-metadata'; // @peculiar/x509 throws on import without it
import { randomBytes, webcrypto } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const YEARS = 10;
const CLIENT = '1.3.6.1.5.5.7.3.2';
const SERVER = '1.3.6.1.5.5.7.3.1';

/** A certificate that the stack's own authority issues. */
interface Leaf {
  readonly name: string;
  /** Distinguished name; Kubernetes reads the user from CN and the groups from O. */
  readonly subject: string;
  readonly usages: readonly string[];
}

const LEAVES: readonly Leaf[] = [
  { name: 'apiserver', subject: 'CN=kube-apiserver', usages: [SERVER] },
  { name: 'etcd', subject: 'CN=etcd', usages: [SERVER, CLIENT] },
  { name: 'apiserver-etcd', subject: 'CN=kube-apiserver', usages: [CLIENT] },
  { name: 'admin', subject: 'CN=admin,O=system:masters', usages: [CLIENT] },
  { name: 'controller-manager', subject: 'CN=system:kube-controller-manager', usages: [CLIENT, SERVER] },
  { name: 'scheduler', subject: 'CN=system:kube-scheduler', usages: [CLIENT, SERVER] },
];

/** etcd and the front proxy have an authority of their own: who holds a client certificate of one is nobody to the others. */
const AUTHORITIES: Readonly<Record<string, readonly Leaf[]>> = {
  ca: LEAVES.filter((leaf) => !leaf.name.includes('etcd')),
  'etcd-ca': LEAVES.filter((leaf) => leaf.name.includes('etcd')),
  'front-proxy-ca': [{ name: 'front-proxy', subject: 'CN=front-proxy-client', usages: [CLIENT] }],
};

/** Names under which servers of the stack are reached; 10.0.0.1 is the first address of its service range. */
const SERVER_NAMES: x509.JsonGeneralNames = [
  { type: 'dns', value: 'localhost' },
  { type: 'dns', value: 'kubernetes' },
  { type: 'dns', value: 'kubernetes.default' },
  { type: 'dns', value: 'kubernetes.default.svc' },
  { type: 'ip', value: '127.0.0.1' },
  { type: 'ip', value: '10.0.0.1' },
];

/** With what the API server proves to kubelets that it is the API server. */
export const KUBELET_CLIENT = 'apiserver-kubelet';

/** Path of a certificate and of its key. */
export function certificatePaths(pki: string, name: string): { readonly cert: string; readonly key: string } {
  return { cert: join(pki, `${name}.crt`), key: join(pki, `${name}.key`) };
}

/** Makes the authorities, certificates and the ServiceAccount key pair of a stack, once. */
export async function ensureCertificates(pki: string): Promise<void> {
  const done = join(pki, 'complete');
  if (existsSync(done)) return;
  x509.cryptoProvider.set(webcrypto);
  for (const [authority, leaves] of Object.entries(AUTHORITIES)) await issue(pki, authority, leaves);
  const keys = await generateKeys();
  await writeKey(join(pki, 'service-account.key'), keys.privateKey);
  const publicKey = Buffer.from(await webcrypto.subtle.exportKey('spki', keys.publicKey));
  writeFileSync(join(pki, 'service-account.pub'), pem('PUBLIC KEY', publicKey), { mode: 0o600 });
  writeFileSync(done, '');
}

/** A certificate for a kubelet: with it the kubelet serves, and is the user of its node. */
export interface NodeCertificate {
  /** Name of the files. */
  readonly file: string;
  readonly node: string;
  readonly address: string;
}

/** Makes the certificates of real nodes, anew: their addresses may be others than last time. */
export async function issueNodeCertificates(pki: string, nodes: readonly NodeCertificate[]): Promise<void> {
  x509.cryptoProvider.set(webcrypto);
  const { cert, key } = certificatePaths(pki, 'ca');
  const ca = new x509.X509Certificate(readFileSync(cert, 'utf8'));
  const bytes = x509.PemConverter.decodeFirst(readFileSync(key, 'utf8'));
  const signingKey = await webcrypto.subtle.importKey('pkcs8', bytes, ALGORITHM, false, ['sign']);
  const client = { name: KUBELET_CLIENT, subject: 'CN=kube-apiserver,O=system:masters', usages: [CLIENT] };
  await issueLeaf(pki, client, ca, signingKey);
  for (const { file, node, address } of nodes) {
    const leaf = { name: file, subject: `CN=system:node:${node},O=system:nodes`, usages: [SERVER, CLIENT] };
    await issueLeaf(pki, leaf, ca, signingKey, [
      { type: 'dns', value: node },
      { type: 'ip', value: address },
    ]);
  }
}

async function issue(pki: string, authority: string, leaves: readonly Leaf[]): Promise<void> {
  const keys = await generateKeys();
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity(),
    name: `CN=dvflow local ${authority}`,
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  await write(pki, authority, ca, keys.privateKey);
  for (const leaf of leaves) await issueLeaf(pki, leaf, ca, keys.privateKey);
}

async function issueLeaf(
  pki: string,
  leaf: Leaf,
  ca: x509.X509Certificate,
  signingKey: webcrypto.CryptoKey,
  names = SERVER_NAMES,
): Promise<void> {
  const keys = await generateKeys();
  const serves = leaf.usages.includes(SERVER);
  const certificate = await x509.X509CertificateGenerator.create({
    ...validity(),
    subject: leaf.subject,
    issuer: ca.subject,
    publicKey: keys.publicKey,
    signingKey,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([...leaf.usages]),
      await x509.AuthorityKeyIdentifierExtension.create(ca.publicKey),
      ...(serves ? [new x509.SubjectAlternativeNameExtension(names)] : []),
    ],
  });
  await write(pki, leaf.name, certificate, keys.privateKey);
}

function validity(): { serialNumber: string; notBefore: Date; notAfter: Date } {
  const notBefore = new Date(Date.now() - 60_000);
  const notAfter = new Date(notBefore);
  notAfter.setFullYear(notAfter.getFullYear() + YEARS);
  // RFC 5280 §4.1.2.2: positive, so the first bit stays clear
  return { serialNumber: `4${randomBytes(15).toString('hex').slice(1)}`, notBefore, notAfter };
}

async function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

async function write(
  pki: string,
  name: string,
  certificate: x509.X509Certificate,
  key: webcrypto.CryptoKey,
): Promise<void> {
  const paths = certificatePaths(pki, name);
  writeFileSync(paths.cert, `${certificate.toString('pem')}\n`, { mode: 0o600 });
  await writeKey(paths.key, key);
}

async function writeKey(path: string, key: webcrypto.CryptoKey): Promise<void> {
  writeFileSync(path, pem('PRIVATE KEY', Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key))), {
    mode: 0o600,
  });
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
