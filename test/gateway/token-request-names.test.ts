import assert from 'node:assert/strict';
import type { GatewayParts } from '../../workers/gateway/parts.js';
import { createTokens } from '../../workers/gateway/tokens.js';
import { answerTokenRequest, type ApiAnswer } from '../../workers/gateway/upload-token-requests.js';
import { ALICE, keysOver, secretStore, uploadClaim } from './support.js';

describe('a request for an upload token', () => {
  const asked: string[] = [];
  const kubernetes = {
    core: {
      readNamespacedPersistentVolumeClaim: async ({ name }: { name: string }) => {
        asked.push(name);
        return uploadClaim();
      },
    },
    authorization: { createSubjectAccessReview: async () => ({ status: { allowed: true } }) },
  } as unknown as GatewayParts['kubernetes'];
  const tokens = createTokens(keysOver(secretStore()));

  beforeEach(() => {
    asked.length = 0;
  });

  async function answer(pvcName: unknown, namespace = 'team-a'): Promise<ApiAnswer> {
    const body = {
      apiVersion: 'upload.cdi.kubevirt.io/v1beta1',
      kind: 'UploadTokenRequest',
      metadata: { name: 'ask' },
      spec: { pvcName },
    };
    const request = { user: ALICE, version: 'v1beta1', namespace, body, dryRun: false };
    return await answerTokenRequest({ kubernetes, tokens }, request);
  }

  for (const name of ['disk', 'a', '0', 'vm-1.disk-0', `${'a.'.repeat(126)}a`])
    it(`is answered for a claim of the name ${name.slice(0, 20)}`, async () => {
      assert.equal((await answer(name)).code, 200);
      assert.deepEqual(asked, [name]);
    });

  for (const [name, why] of [
    ['..', /^Invalid value: "\.\.": a lowercase RFC 1123 subdomain must consist of/],
    ['.', /^Invalid value: "\."/],
    ['A B', /^Invalid value: "A B"/],
    ['a/b', /^Invalid value: "a\/b"/],
    ['a..b', /^Invalid value/],
    ['disk\n', /^Invalid value: "disk\\n"/],
    ['-a', /^Invalid value/],
    [`${'a.'.repeat(126)}ab`, /must be no more than 253 bytes$/],
    ['a-'.repeat(100_000), /must be no more than 253 bytes$/],
    ['', /^Required value/],
    [undefined, /^Required value/],
    [5, /^Required value/],
  ] as const)
    it(`is refused for ${JSON.stringify(name)?.slice(0, 20)}, as kube-apiserver refuses a field, before anything is asked`, async () => {
      const { code, body } = await answer(name);
      const { reason, message, details } = body as {
        reason: string;
        message: string;
        details: { group: string; kind: string; name: string; causes: Record<string, string>[] };
      };
      const { causes, ...object } = details;
      assert.deepEqual([code, reason], [422, 'Invalid']);
      assert.deepEqual(object, { group: 'upload.cdi.kubevirt.io', kind: 'UploadTokenRequest', name: 'ask' });
      assert.equal(causes.length, 1);
      assert.equal(causes[0]?.['field'], 'spec.pvcName');
      assert.match(causes[0]?.['message'] ?? '', why);
      const named = 'UploadTokenRequest.upload.cdi.kubevirt.io "ask" is invalid: spec.pvcName: ';
      assert.equal(message, `${named}${causes[0]?.['message']}`);
      assert.deepEqual(asked, []);
    });

  it('is refused in a namespace that cannot be one', async () => {
    assert.equal((await answer('disk', '..')).code, 404);
    assert.deepEqual(asked, []);
  });
});
