import assert from 'node:assert/strict';
import { parseS3Url } from '../../../activities/image/source/s3-address.js';
import { presign } from '../../../activities/image/source/s3-signature.js';
import { signatureOf } from '../../support/servers/sigv4.js';

describe('signatures of S3 requests', () => {
  // AWS, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)"
  const published = {
    secret: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
    target:
      '/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request' +
      '&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host',
    signature: 'aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404',
  };

  it('are judged by a verifier that makes the one that AWS has published', () => {
    const headers = { host: 'examplebucket.s3.amazonaws.com' };
    assert.equal(
      signatureOf({ method: 'GET', target: published.target, headers }, published.secret),
      published.signature,
    );
  });

  for (const url of [
    's3://examplebucket/test.txt',
    's3://with.dots/test.txt',
    "s3://examplebucket/a b+c%20d?e#f&g=h!'()*~ü€😀//i",
    'http://minio.test:9000/images/a%20b%2Bc+d.img?versionId=a%2Fb%2B%20c',
    'https://[2001:db8::7]/images/disk.img',
  ]) {
    it(`are right for ${url}`, async () => {
      const address = parseS3Url(url);
      const signed = await presign(address, {
        accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
        secretAccessKey: published.secret,
        sessionToken: 'IQoJb3JpZ2luX2VjE+/=',
      });
      const { pathname, search, searchParams, host } = signed;
      const expected = signatureOf(
        { method: 'GET', target: `${pathname}${search}`, headers: { host } },
        published.secret,
      );
      assert.equal(searchParams.get('X-Amz-Signature'), expected);
      assert.equal(pathname, address.url.pathname);
      assert.equal(searchParams.get('X-Amz-Security-Token'), 'IQoJb3JpZ2luX2VjE+/=');
      assert.equal(searchParams.get('versionId'), address.url.searchParams.get('versionId'));
      assert.equal(searchParams.get('X-Amz-Credential')?.split('/')[2], address.region);
    });
  }
});
