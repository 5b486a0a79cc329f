import assert from 'node:assert/strict';
import { uploadClaim, useTestGateway, type TestGateway } from './support.js';
import { SYNC } from './uploads.js';

describe("CDI's upload endpoints answer as CDI's proxy does", function () {
  this.timeout(30_000);
  let gateway: TestGateway;
  let token: string;
  useTestGateway((given) => ({ gateway, token } = given));

  const cases: readonly [what: string, authorization: string | undefined][] = [
    ['no token', undefined],
    ['another scheme', 'Basic YTpi'],
    ['padding', 'Bearer abc='],
    ['two words', 'Bearer a b'],
  ];
  for (const [what, authorization] of cases) {
    it(`400 to ${what}`, async () => {
      const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
      assert.equal((await gateway.send({ path: SYNC, body: 'x', headers })).status, 400);
    });
  }

  it('401 to a token that is not one, or was made for a claim of this name that is gone', async () => {
    assert.equal((await gateway.send({ path: SYNC, token: 'a.b.c', body: 'x' })).status, 401);
    gateway.claims.set('disk', uploadClaim({ uid: 'another-uid' }));
    const answer = await gateway.send({ path: SYNC, token, body: 'x' });
    assert.equal(answer.status, 401);
    assert.match(answer.text, /another claim of the name disk/);
  });

  it('401 to a token made before there was a claim, unless its DataVolume controls the claim', async () => {
    const early = await gateway.tokens.issue({ namespace: 'team-a', name: 'disk' });
    assert.equal((await gateway.send({ path: SYNC, token: early, body: 'x' })).status, 401);
    const owned = await gateway.tokens.issue({
      namespace: 'team-a',
      name: 'disk',
      dataVolumeUid: 'dv-uid',
    });
    assert.equal((await gateway.send({ path: SYNC, token: owned, body: 'x' })).status, 401);
    const claim = uploadClaim();
    const owner = {
      apiVersion: 'cdi.kubevirt.io/v1beta1',
      kind: 'DataVolume',
      name: 'disk',
      controller: true,
    };
    claim.metadata!.ownerReferences = [{ ...owner, uid: 'dv-uid' }];
    gateway.claims.set('disk', claim);
    gateway.onOpen = async (opening, asked) => {
      assert.equal(opening.dataVolumeUid, 'dv-uid');
      gateway.dataPort.open(asked.session, asked.length);
      return { url: gateway.dataPort.url, session: asked.session, offset: 0 };
    };
    assert.equal((await gateway.send({ path: SYNC, token: owned, body: 'x' })).status, 200);
  });

  it("503 with CDI's words while the claim takes nothing", async () => {
    const refused = async (): Promise<string> => {
      const { status, text, headers } = await gateway.send({ path: SYNC, token, body: 'x' });
      assert.equal(status, 503);
      assert.equal(headers['retry-after'], '5');
      return text;
    };
    const annotated = (annotations: Record<string, string | undefined>): void => {
      gateway.claims.set('disk', uploadClaim({ annotations }));
    };
    gateway.claims.delete('disk');
    assert.equal(await refused(), "rejecting Upload Request for PVC disk that doesn't exist");
    annotated({ 'cdi.kubevirt.io/storage.upload.target': undefined });
    assert.equal(await refused(), 'PVC disk is not an upload target');
    annotated({ 'cdi.kubevirt.io/storage.pod.phase': 'Succeeded' });
    assert.equal(await refused(), 'rejecting Upload Request for PVC disk that already finished uploading');
    annotated({ 'cdi.kubevirt.io/storage.contentType': '<b>iso</b>' });
    assert.equal(
      await refused(),
      'rejecting upload request for PVC disk - upload content-type &lt;b&gt;iso&lt;/b&gt; is invalid',
    );
  });

  it('503 when the claim is not ready within ten seconds', async () => {
    gateway.claims.set(
      'disk',
      uploadClaim({ annotations: { 'cdi.kubevirt.io/storage.pod.ready': 'false' } }),
    );
    const started = Date.now();
    const { status, text } = await gateway.send({ path: SYNC, token, body: 'x' });
    assert.equal(status, 503);
    assert.match(text, /context deadline exceeded/);
    assert.ok(Date.now() - started >= 9_500);
  });

  it('200 to HEAD of the asynchronous paths, 404 to that of the others and to other methods', async () => {
    const head = { method: 'HEAD', token };
    for (const version of ['v1beta1', 'v1alpha1']) {
      assert.equal((await gateway.send({ ...head, path: `/${version}/upload-async` })).status, 200);
      assert.equal((await gateway.send({ ...head, path: `/${version}/upload-form-async` })).status, 200);
      assert.equal((await gateway.send({ ...head, path: `/${version}/upload` })).status, 404);
    }
    for (const method of ['GET', 'PUT', 'PATCH', 'DELETE'])
      assert.equal((await gateway.send({ method, token, path: SYNC })).status, 404, method);
    assert.equal((await gateway.send({ method: 'HEAD', path: '/v1beta1/upload-async' })).status, 400);
    assert.equal((await gateway.send({ token, path: '/v1beta1/upload-archive', body: 'x' })).status, 404);
    assert.equal((await gateway.send({ token, path: '/v1/upload', body: 'x' })).status, 404);
  });

  it('OK to /healthz, and 200 to a preflight from anywhere', async () => {
    assert.equal((await gateway.send({ method: 'GET', path: '/healthz' })).text, 'OK');
    const headers = {
      origin: 'https://console.example',
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization',
    };
    const preflight = await gateway.send({ method: 'OPTIONS', path: SYNC, headers });
    assert.equal(preflight.status, 200);
    assert.equal(preflight.headers['access-control-allow-origin'], '*');
    assert.match(String(preflight.headers['access-control-allow-methods']), /POST/);
    assert.match(String(preflight.headers['access-control-allow-headers']), /authorization/);
    const { origin } = headers;
    const answer = await gateway.send({ path: SYNC, token, body: 'x', headers: { origin } });
    assert.equal(answer.headers['access-control-allow-origin'], '*');
  });
});
