import assert from 'node:assert/strict';
import { ALICE, uploadClaim, useTestGateway, type TestGateway } from './support.js';

describe("CDI's upload endpoints", function () {
  this.timeout(30_000);
  let gateway: TestGateway;
  let token: string;
  useTestGateway((given) => ({ gateway, token } = given));

  it('renew the token of an upload that is under way', async () => {
    const path = '/v1beta1/upload-token';
    gateway.claims.set(
      'disk',
      uploadClaim({ annotations: { 'cdi.kubevirt.io/storage.pod.ready': 'false' } }),
    );
    const { status, text } = await gateway.send({ path, token });
    assert.equal(status, 200, text);
    const renewed = (JSON.parse(text) as { token: string }).token;
    const { claimUid, holder } = await gateway.tokens.verify(renewed);
    assert.deepEqual([claimUid, holder], ['claim-uid', ALICE]);
    assert.deepEqual(gateway.reviewed.at(-1), {
      ...ALICE,
      resourceAttributes: {
        namespace: 'team-a',
        verb: 'create',
        group: 'upload.cdi.kubevirt.io',
        version: 'v1beta1',
        resource: 'uploadtokenrequests',
      },
    });
    assert.equal((await gateway.send({ path, token: 'a.b.c' })).status, 401);
    gateway.claims.set(
      'disk',
      uploadClaim({ annotations: { 'cdi.kubevirt.io/storage.pod.phase': 'Succeeded' } }),
    );
    assert.equal((await gateway.send({ path, token })).status, 503);
  });

  it('renew no token of whoever has lost the right, or is not known', async () => {
    const path = '/v1beta1/upload-token';
    gateway.denied.add('alice');
    const { status, text } = await gateway.send({ path, token });
    assert.equal(status, 403);
    assert.match(text, /user &quot;alice&quot; may not upload|user "alice" may not upload/);
    const nobody = await gateway.tokens.issue({ namespace: 'team-a', name: 'disk', claimUid: 'claim-uid' });
    assert.equal((await gateway.send({ path, token: nobody })).status, 403);
    // a header has an end: who is in very many groups asks for a new token instead
    const groups = Array.from({ length: 500 }, (_, index) => `group-of-many-${index}`);
    const holder = { ...ALICE, groups };
    const many = await gateway.tokens.issue({
      namespace: 'team-a',
      name: 'disk',
      claimUid: 'claim-uid',
      holder,
    });
    assert.ok(many.length < 2_000);
  });
});
