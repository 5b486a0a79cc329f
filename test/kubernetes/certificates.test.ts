import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { parseAllDocuments } from 'yaml';
import { readFileSync } from 'node:fs';
import type { V1Secret } from '@kubernetes/client-node';
import { createKubernetes, type Kubernetes } from '../../activities/kubernetes/client.js';
import { LEAF_MS } from '../../workers/pki/certificates.js';
import { PEERS } from '../../workers/pki/directory.js';
import { CERTIFICATE_SECRETS, ensureCertificateSecrets, SETTLE_MS } from '../../workers/pki/secrets.js';
import { useControlPlane } from './support/control-plane.js';

const MANIFEST = new URL('../../deploy/workers/certificates.yaml', import.meta.url);

describe('certificates of data ports in Secrets', function () {
  this.timeout(60_000);
  const plane = useControlPlane();
  /** With the rights of the control role: it may fill these Secrets and make none. */
  let kubernetes: Kubernetes;
  let admin: Kubernetes;

  before(async () => {
    kubernetes = createKubernetes(plane().control);
    ({ admin } = plane());
  });

  const read = async (which: keyof typeof CERTIFICATE_SECRETS): Promise<Record<string, string>> => {
    const { data = {} } = await kubernetes.core.readNamespacedSecret(CERTIFICATE_SECRETS[which]);
    return Object.fromEntries(
      Object.entries(data).map(([key, value]) => [key, Buffer.from(value, 'base64').toString()]),
    );
  };

  it('are not made where deploy has made no Secret, which it names', async () => {
    await assert.rejects(ensureCertificateSecrets(kubernetes), /dvflow\/dvflow-authority does not exist/);
  });

  it('fill the Secrets that deploy makes empty, once, by however many replicas', async () => {
    const manifests = parseAllDocuments(readFileSync(MANIFEST, 'utf8')).map(
      (document) => document.toJS() as V1Secret,
    );
    for (const body of manifests) {
      const { namespace = '', name = '' } = body.metadata ?? {};
      // tests of other files have the same control plane
      await admin.core.deleteNamespacedSecret({ namespace, name }).catch(() => undefined);
      await admin.core.createNamespacedSecret({ namespace, body });
    }
    const made = await Promise.all([1, 2, 3].map(() => ensureCertificateSecrets(kubernetes)));
    assert.equal(made.flat().length, 3, JSON.stringify(made));
    assert.deepEqual(await ensureCertificateSecrets(kubernetes), []);
    const authority = new X509Certificate((await read('authority'))['tls.crt'] ?? '');
    for (const peer of ['dvflow-node', 'dvflow-gateway'] as const) {
      const leaf = await read(peer);
      assert.equal(new X509Certificate(leaf['tls.crt'] ?? '').verify(authority.publicKey), true);
      assert.match(leaf['tls.key'] ?? '', /PRIVATE KEY/);
      assert.equal(leaf['ca.crt']?.trim(), (await read('authority'))['tls.crt']?.trim());
    }
  });

  const empty = async (which: keyof typeof CERTIFICATE_SECRETS): Promise<void> => {
    const secret = await kubernetes.core.readNamespacedSecret(CERTIFICATE_SECRETS[which]);
    delete secret.data;
    await kubernetes.core.replaceNamespacedSecret({ ...CERTIFICATE_SECRETS[which], body: secret });
  };
  const leaves = async () => await Promise.all(PEERS.map(async (peer) => await read(peer)));
  const issued = (leaf: Record<string, string>, authority: Record<string, string>): boolean =>
    new X509Certificate(leaf['tls.crt'] ?? '').verify(
      new X509Certificate(authority['tls.crt'] ?? '').publicKey,
    );
  const trusted = (leaf: Record<string, string>): readonly string[] =>
    leaf['ca.crt']?.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/g) ?? [];
  const LEAVES = ['dvflow-gateway-certificate', 'dvflow-node-certificate'];

  it('renew what nears its end', async () => {
    const later = await ensureCertificateSecrets(kubernetes, Date.now() + LEAF_MS);
    assert.deepEqual([...later].sort(), LEAVES);
  });

  it('trust a new authority everywhere before the first leaf is of it', async () => {
    const now = Date.now();
    const before = await read('authority');
    await empty('authority');
    assert.deepEqual([...(await ensureCertificateSecrets(kubernetes, now))].sort(), [
      'dvflow-authority',
      ...LEAVES,
    ]);
    const authority = await read('authority');
    for (const leaf of await leaves()) {
      assert.ok(issued(leaf, before), 'the leaf is that of before');
      assert.deepEqual(trusted(leaf), [authority['tls.crt']?.trim(), before['tls.crt']?.trim()]);
    }
    assert.deepEqual(await ensureCertificateSecrets(kubernetes, now + SETTLE_MS - 1), []);
    const made = await ensureCertificateSecrets(kubernetes, now + SETTLE_MS);
    assert.deepEqual([...made].sort(), LEAVES);
    for (const leaf of await leaves()) {
      assert.ok(issued(leaf, authority));
      assert.equal(trusted(leaf).length, 2);
    }
    assert.deepEqual(await ensureCertificateSecrets(kubernetes, now + 2 * SETTLE_MS), []);
  });

  it('wait for the peer that was told last, and keep the authority of their leaves however often there is a new one', async () => {
    const now = Date.now();
    const first = await read('authority');
    const node = await kubernetes.core.readNamespacedSecret(CERTIFICATE_SECRETS['dvflow-node']);
    await empty('authority');
    await ensureCertificateSecrets(kubernetes, now);
    await empty('authority');
    await ensureCertificateSecrets(kubernetes, now + 1000);
    const authority = await read('authority');
    for (const leaf of await leaves())
      assert.deepEqual(trusted(leaf), [authority['tls.crt']?.trim(), first['tls.crt']?.trim()]);
    // as where the call ended in between
    const { metadata } = await kubernetes.core.readNamespacedSecret(CERTIFICATE_SECRETS['dvflow-node']);
    const body = { ...node, metadata: { ...node.metadata, resourceVersion: metadata!.resourceVersion! } };
    await kubernetes.core.replaceNamespacedSecret({ ...CERTIFICATE_SECRETS['dvflow-node'], body });
    const told = now + 2 * SETTLE_MS;
    assert.deepEqual(await ensureCertificateSecrets(kubernetes, told), ['dvflow-node-certificate']);
    assert.ok((await leaves()).every((leaf) => issued(leaf, first)));
    const made = await ensureCertificateSecrets(kubernetes, told + SETTLE_MS);
    assert.deepEqual([...made].sort(), LEAVES);
    assert.ok((await leaves()).every((leaf) => issued(leaf, authority)));
  });

  it('trust nothing of before where all were emptied', async () => {
    for (const which of ['authority', ...PEERS] as const) await empty(which);
    assert.equal((await ensureCertificateSecrets(kubernetes)).length, 3);
    const authority = await read('authority');
    for (const leaf of await leaves()) {
      assert.ok(issued(leaf, authority));
      assert.deepEqual(trusted(leaf), [authority['tls.crt']?.trim()]);
    }
  });
});
