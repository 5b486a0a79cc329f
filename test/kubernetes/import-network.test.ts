import assert from 'node:assert/strict';
import { buildSourceRequest } from '../../activities/kubernetes/source-request.js';

const PEM = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';
const SOURCES = [
  { http: { url: 'https://a/' } },
  { s3: { url: 's3://a/b' } },
  { gcs: { url: 'gs://a/b' } },
  { registry: { url: 'docker://a/b' } },
];

/** A cluster with one ConfigMap, in dvflow's namespace. */
const lookup = {
  secret: async () => undefined,
  configMap: async ({ namespace, name }: { namespace: string; name: string }) =>
    namespace === 'dvflow' && name === 'authorities' ? { data: { 'ca.pem': PEM } } : undefined,
};

describe('the importProxy of CDIConfig', () => {
  for (const source of SOURCES) {
    const [kind = ''] = Object.keys(source);
    const proxyFor = async (importProxy: object) => {
      const context = { lookup, namespace: 'team-a', config: { spec: { importProxy } } };
      const request = await buildSourceRequest(source, context);
      return 'missing' in request || request.kind === 'file' ? request : request.proxy;
    };

    it(`tells ${kind} sources which proxy they are asked by, and whom to trust`, async () => {
      const importProxy = { HTTPSProxy: 'http://p:1', noProxy: '.svc', trustedCAProxy: 'authorities' };
      assert.deepEqual(await proxyFor(importProxy), { https: 'http://p:1', noProxy: '.svc', ca: PEM });
    });

    it(`tells ${kind} sources whom to trust where there is no proxy`, async () => {
      assert.deepEqual(await proxyFor({ trustedCAProxy: 'authorities' }), { ca: PEM });
      assert.equal(await proxyFor({ noProxy: '.svc' }), undefined);
    });

    it(`misses the ConfigMap in dvflow's namespace for ${kind} sources`, async () => {
      assert.deepEqual(await proxyFor({ trustedCAProxy: 'other' }), { missing: ['ConfigMap dvflow/other'] });
    });
  }
});
