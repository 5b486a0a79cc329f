import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { readTlsFiles } from '../../activities/data-port/tls.js';
import { AUTHORITY_MS, createAuthority, issueLeaf, LEAF_MS } from '../../workers/pki/certificates.js';
import { ensureCertificateDirectory, peerDirectory, PEERS } from '../../workers/pki/directory.js';
import { isCurrent, isFresh, trusted } from '../../workers/pki/judge.js';
import { makeCertificates } from './data-port-client.js';

describe('certificates of data ports', () => {
  it('are leaves of one authority, named after their peer, with what each is for', async () => {
    const authority = await createAuthority();
    const issuer = new X509Certificate(authority.cert);
    assert.equal(issuer.ca, true);
    for (const peer of PEERS) {
      const leaf = new X509Certificate((await issueLeaf(authority, peer)).cert);
      assert.equal(leaf.verify(issuer.publicKey), true);
      assert.equal(leaf.ca, false);
      assert.equal(leaf.subject, `CN=${peer}`);
      const names = {
        'dvflow-node': 'DNS:dvflow-node',
        'dvflow-gateway':
          'DNS:dvflow-gateway, DNS:dvflow-gateway.dvflow, DNS:dvflow-gateway.dvflow.svc, DNS:localhost, IP Address:127.0.0.1',
      };
      assert.equal(leaf.subjectAltName, names[peer]);
      assert.deepEqual(leaf.keyUsage, ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
    }
  });

  it('are renewed when a third of their time is left, or the authority is another', async () => {
    const now = Date.now();
    const authority = await createAuthority(new Date(now));
    const leaf = { ...(await issueLeaf(authority, 'dvflow-node', new Date(now))), ca: authority.cert };
    assert.equal(isCurrent(leaf, authority, now + LEAF_MS * 0.6), true);
    assert.equal(isCurrent(leaf, authority, now + LEAF_MS * 0.7), false);
    assert.equal(isFresh(authority, now + AUTHORITY_MS * 0.6), true);
    assert.equal(isFresh(authority, now + AUTHORITY_MS * 0.7), false);
    assert.equal(isCurrent(leaf, await createAuthority(), now), false);
    assert.equal(isCurrent({ ...leaf, ca: '' }, authority, now), false);
    assert.equal(isFresh({ ...leaf, key: authority.key }, now), false);
    assert.equal(isFresh({ cert: 'rubbish', key: 'rubbish' }, now), false);
  });

  it('trust the authority of before while it is valid, and no longer list', async () => {
    const now = Date.now();
    const [first, second, third] = [
      await createAuthority(),
      await createAuthority(),
      await createAuthority(),
    ];
    const count = (pem: string): number => pem.match(/BEGIN CERTIFICATE/g)?.length ?? 0;
    const both = trusted(second, first.cert, now);
    assert.equal(count(both), 2);
    assert.ok(both.startsWith(second.cert.trim()));
    assert.equal(count(trusted(third, both, now)), 2);
    assert.equal(count(trusted(second, both, now)), 2);
    assert.equal(count(trusted(second, first.cert, now + AUTHORITY_MS + 1)), 1);
  });

  it('in a directory are made once, kept, and only their owner reads them', async () => {
    using made = await makeCertificates();
    const directory = peerDirectory(made.directory, 'dvflow-gateway');
    const before = readTlsFiles(directory);
    await ensureCertificateDirectory(made.directory);
    assert.deepEqual(readTlsFiles(directory), before);
    assert.equal(statSync(join(directory, 'tls.key')).mode & 0o777, 0o600);
    await ensureCertificateDirectory(made.directory, Date.now() + LEAF_MS);
    assert.notEqual(readTlsFiles(directory).cert, before.cert);
    assert.equal(
      readFileSync(join(made.directory, 'authority', 'tls.crt'), 'utf8'),
      readTlsFiles(directory).ca,
    );
  });
});
