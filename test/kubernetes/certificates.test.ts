import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { parseAllDocuments } from 'yaml';
import { readFileSync } from 'node:fs';
import type { V1Secret } from '@kubernetes/client-node';
import { createKubernetes, type Kubernetes } from '../../activities/kubernetes/client.js';
import { LEAF_MS } from '../../workers/pki/certificates.js';
import { CERTIFICATE_SECRETS, ensureCertificateSecrets } from '../../workers/pki/secrets.js';
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

  it('renew what nears its end, and everything after a new authority', async () => {
    const later = await ensureCertificateSecrets(kubernetes, Date.now() + LEAF_MS);
    assert.deepEqual([...later].sort(), ['dvflow-gateway-certificate', 'dvflow-node-certificate']);
    const secret = await kubernetes.core.readNamespacedSecret(CERTIFICATE_SECRETS.authority);
    delete secret.data;
    await kubernetes.core.replaceNamespacedSecret({ ...CERTIFICATE_SECRETS.authority, body: secret });
    assert.equal((await ensureCertificateSecrets(kubernetes)).length, 3);
    const { 'ca.crt': ca = '' } = await read('dvflow-node');
    assert.equal(ca.match(/BEGIN CERTIFICATE/g)?.length, 2);
  });
});
