import assert from 'node:assert/strict';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import {
  createCredentialActivities,
  createCredentialReader,
} from '../../activities/kubernetes/credentials.js';
import { useControlPlane } from './support/control-plane.js';
import { act, createDataVolume, makeNamespace, manifest, refOf, rejects } from './support/fixtures.js';

const PEM = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';
const SHA = 'B94D27B9934D3E08A52E52D7DA7DABFAC484EFE37A5380EE9088F7ACE2EFCDE9';

describe('credentials on a real API server', function () {
  this.timeout(30_000);
  const plane = useControlPlane();
  let admin: Kubernetes;
  let namespace: string;
  let credentials: ReturnType<typeof createCredentialActivities>;

  before(() => {
    admin = plane().admin;
    const kubernetes = createKubernetes(plane().control);
    credentials = createCredentialActivities({ kubernetes, transferNamespace: 'dvflow-transfers' });
  });
  beforeEach(async () => {
    namespace = await makeNamespace(admin);
  });
  const create = async (http: object) =>
    refOf(
      await createDataVolume(
        admin,
        manifest(namespace, 'vm1', { source: { http: { url: 'https://a.example/d?x=1', ...http } } }),
      ),
    );
  const secret = async (name: string, stringData: Record<string, string>) =>
    await admin.core.createNamespacedSecret({ namespace, body: { metadata: { name }, stringData } });
  const copyOf = async (uid: string) =>
    await admin.core.readNamespacedSecret({ namespace: 'dvflow-transfers', name: `transfer-${uid}` });

  it('copies everything that the DataVolume names, marked, and the node role reads it', async () => {
    await secret('basic', { accessKeyId: 'user', secretKey: 'pass:word\n' });
    await secret('headers', { one: 'X-Token: a:b\n', two: 'Cookie: c=d' });
    await admin.core.createNamespacedConfigMap({
      namespace,
      body: { metadata: { name: 'ca' }, data: { 'b.crt': PEM, 'a.pem': PEM, '.hidden': 'no' } },
    });
    const dataVolume = await create({
      secretRef: 'basic',
      certConfigMap: 'ca',
      extraHeaders: ['Accept: a/b, c:d', 'nonsense'],
      secretExtraHeaders: ['headers'],
      checksum: `SHA256:${SHA}`,
      insecureSkipVerify: true,
    });
    assert.deepEqual(await act(credentials.copyCredentials, [{ dataVolume }]), {});
    assert.deepEqual(await act(credentials.copyCredentials, [{ dataVolume }], { attempt: 2 }), {});
    const { metadata } = await copyOf(dataVolume.uid);
    assert.equal(metadata?.labels?.['dvflow.io/unpublished'], dataVolume.uid);
    assert.equal(metadata?.annotations?.['dvflow.io/workflow-id'], 'workflow-1');
    assert.equal(metadata?.ownerReferences, undefined);
    const read = createCredentialReader(
      await plane().configFor('dvflow-nodes', 'dvflow-node'),
      'dvflow-transfers',
    );
    assert.deepEqual(await read(dataVolume.uid), {
      kind: 'http',
      url: 'https://a.example/d?x=1',
      username: 'user',
      password: 'pass:word',
      headers: [['Accept', 'a/b, c:d']],
      secretHeaders: [
        ['X-Token', 'a:b'],
        ['Cookie', 'c=d'],
      ],
      ca: `${PEM.trim()}\n${PEM}`,
      insecureSkipVerify: true,
      checksum: `sha256:${SHA.toLowerCase()}`,
    });
  });

  it('names what is missing, and copies a renewed Secret over the old copy', async () => {
    const dataVolume = await create({
      secretRef: 'basic',
      certConfigMap: 'ca',
      secretExtraHeaders: ['h1', 'h2'],
    });
    assert.deepEqual(await act(credentials.copyCredentials, [{ dataVolume }]), {
      missing: [
        `Secret ${namespace}/basic`,
        `ConfigMap ${namespace}/ca`,
        `Secret ${namespace}/h1`,
        `Secret ${namespace}/h2`,
      ],
    });
    await assert.rejects(copyOf(dataVolume.uid), { code: 404 });
    await secret('basic', { accessKeyId: 'user', secretKey: 'old' });
    await secret('h1', {});
    await secret('h2', {});
    await admin.core.createNamespacedConfigMap({
      namespace,
      body: { metadata: { name: 'ca' }, data: { ca: PEM } },
    });
    await act(credentials.copyCredentials, [{ dataVolume }]);
    await plane().kubectl(
      'patch',
      'secret',
      'basic',
      '-n',
      namespace,
      '-p',
      '{"stringData":{"secretKey":"new"}}',
    );
    await act(credentials.copyCredentials, [{ dataVolume }], { attempt: 2 });
    const json = Buffer.from((await copyOf(dataVolume.uid)).data?.['source.json'] ?? '', 'base64').toString();
    assert.equal((JSON.parse(json) as { password: string }).password, 'new');
  });

  it('authenticates only with both keys', async () => {
    await secret('basic', { accessKeyId: 'user' });
    const request = await act(credentials.readSourceRequest, [await create({ secretRef: 'basic' })]);
    assert.ok('url' in request && request.kind === 'http');
    assert.deepEqual([request.username, request.password], [undefined, undefined]);
  });

  it('removes the copy, twice', async () => {
    const dataVolume = await create({});
    await act(credentials.copyCredentials, [{ dataVolume }]);
    await act(credentials.deleteCredentials, [{ dataVolume }]);
    await act(credentials.deleteCredentials, [{ dataVolume }], { attempt: 2 });
    await assert.rejects(copyOf(dataVolume.uid), { code: 404 });
  });

  it('refuses a ConfigMap without a certificate', async () => {
    await admin.core.createNamespacedConfigMap({
      namespace,
      body: { metadata: { name: 'ca' }, data: { ca: 'hello' } },
    });
    const dataVolume = await create({ certConfigMap: 'ca' });
    await rejects(
      act(credentials.copyCredentials, [{ dataVolume }]),
      'InvalidDataVolume',
      /holds no PEM certificate in its 1 keys/,
    );
  });
});
