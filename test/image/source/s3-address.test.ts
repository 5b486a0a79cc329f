import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { inRegion, parseS3Url } from '../../../activities/image/source/s3-address.js';
import { fails } from './open.js';

describe('addresses of S3 objects', () => {
  for (const [url, href, region] of [
    // at AWS, by bucket and key
    ['s3://images/disk.img', 'https://images.s3.us-east-1.amazonaws.com/disk.img', 'us-east-1'],
    ['s3://images/a/b/disk.img', 'https://images.s3.us-east-1.amazonaws.com/a/b/disk.img', 'us-east-1'],
    ['s3://with.dots/disk.img', 'https://s3.us-east-1.amazonaws.com/with.dots/disk.img', 'us-east-1'],
    ['S3://Old_Bucket/disk.img', 'https://s3.us-east-1.amazonaws.com/Old_Bucket/disk.img', 'us-east-1'],
    // a key may begin and end with slashes
    ['s3://images//disk.img', 'https://images.s3.us-east-1.amazonaws.com//disk.img', 'us-east-1'],
    ['s3://with.dots///disk.img', 'https://s3.us-east-1.amazonaws.com/with.dots///disk.img', 'us-east-1'],
    ['s3://images/a//b/', 'https://images.s3.us-east-1.amazonaws.com/a//b/', 'us-east-1'],
    ['s3://images//host/b', 'https://images.s3.us-east-1.amazonaws.com//host/b', 'us-east-1'],
    ['https://images.s3.amazonaws.com//a/b/', 'https://images.s3.amazonaws.com//a/b', 'us-east-1'],
    ['https://s3.amazonaws.com/images//a/b/', 'https://s3.amazonaws.com/images//a/b', 'us-east-1'],
    [
      's3://images/a b+c%20d?e#f&g',
      'https://images.s3.us-east-1.amazonaws.com/a%20b%2Bc%2520d%3Fe%23f%26g',
      'us-east-1',
    ],
    // at AWS, both styles, all forms of host names
    [
      'https://s3.eu-west-1.amazonaws.com/images/disk.img',
      'https://s3.eu-west-1.amazonaws.com/images/disk.img',
      'eu-west-1',
    ],
    [
      'https://images.s3.eu-west-1.amazonaws.com/disk.img',
      'https://images.s3.eu-west-1.amazonaws.com/disk.img',
      'eu-west-1',
    ],
    [
      'https://a.b.s3.us-gov-east-1.amazonaws.com/disk.img',
      'https://a.b.s3.us-gov-east-1.amazonaws.com/disk.img',
      'us-gov-east-1',
    ],
    ['https://s3.amazonaws.com/images/disk.img', 'https://s3.amazonaws.com/images/disk.img', 'us-east-1'],
    ['https://images.s3.amazonaws.com/disk.img', 'https://images.s3.amazonaws.com/disk.img', 'us-east-1'],
    [
      'https://s3-ap-southeast-2.amazonaws.com/images/disk.img',
      'https://s3-ap-southeast-2.amazonaws.com/images/disk.img',
      'ap-southeast-2',
    ],
    [
      'https://s3-images.s3.us-west-2.amazonaws.com/disk.img',
      'https://s3-images.s3.us-west-2.amazonaws.com/disk.img',
      'us-west-2',
    ],
    [
      'https://us-west-2.s3.eu-north-1.amazonaws.com/disk.img',
      'https://us-west-2.s3.eu-north-1.amazonaws.com/disk.img',
      'eu-north-1',
    ],
    [
      'https://images.s3.dualstack.eu-west-1.amazonaws.com/disk.img',
      'https://images.s3.dualstack.eu-west-1.amazonaws.com/disk.img',
      'eu-west-1',
    ],
    [
      'https://s3.cn-north-1.amazonaws.com.cn/images/disk.img',
      'https://s3.cn-north-1.amazonaws.com.cn/images/disk.img',
      'cn-north-1',
    ],
    [
      'https://bucket.vpce-1a2b3c4d-5e6f.s3.eu-west-1.vpce.amazonaws.com/images/disk.img',
      'https://bucket.vpce-1a2b3c4d-5e6f.s3.eu-west-1.vpce.amazonaws.com/images/disk.img',
      'eu-west-1',
    ],
    [
      'https://images.s3-accelerate.amazonaws.com/disk.img',
      'https://images.s3-accelerate.amazonaws.com/disk.img',
      'us-east-1',
    ],
    // elsewhere: CDI's rules for bucket, key and region
    [
      'http://minio.storage.svc:9000/images/disk.img',
      'http://minio.storage.svc:9000/images/disk.img',
      'us-east-1',
    ],
    [
      'https://eu-central.example.com/images/a/disk.img',
      'https://eu-central.example.com/images/a/disk.img',
      'eu-central',
    ],
    // the label behind the service, where it looks like a region
    ['https://s3.fr-par.scw.cloud/images/d.img', 'https://s3.fr-par.scw.cloud/images/d.img', 'fr-par'],
    [
      'https://s3.us-west-004.backblazeb2.com/images/d.img',
      'https://s3.us-west-004.backblazeb2.com/images/d.img',
      'us-west-004',
    ],
    ['https://s3.example.com/images/d.img', 'https://s3.example.com/images/d.img', 'us-east-1'],
    [
      'https://nyc3.digitaloceanspaces.com/images/d.img',
      'https://nyc3.digitaloceanspaces.com/images/d.img',
      'nyc3',
    ],
    [
      'https://0af1.r2.cloudflarestorage.com/i/d.img',
      'https://0af1.r2.cloudflarestorage.com/i/d.img',
      'auto',
    ],
    [
      'https://0af1.eu.r2.cloudflarestorage.com/i/d.img',
      'https://0af1.eu.r2.cloudflarestorage.com/i/d.img',
      'auto',
    ],
    ['http://192.0.2.7:9000/images/disk.img', 'http://192.0.2.7:9000/images/disk.img', 'us-east-1'],
    ['http://[2001:db8::7]:9000/images/disk.img', 'http://[2001:db8::7]:9000/images/disk.img', 'us-east-1'],
    ['http://my_host/images/disk.img', 'http://my_host/images/disk.img', 'us-east-1'],
    // escapes of URLs are decoded, and everything is escaped in one way
    [
      'http://minio/images/a b+c%20d%2fe~!(*)\u00fc',
      'http://minio/images/a%20b%2Bc%20d/e~%21%28%2A%29%C3%BC',
      'us-east-1',
    ],
    ['http://minio//images/disk.img/', 'http://minio/images/disk.img', 'us-east-1'],
    ['http://minio/images//disk.img', 'http://minio/images//disk.img', 'us-east-1'],
    // only a version stays of the query
    [
      'http://me:pass@minio/images/disk.img?versionId=a%2Fb+c&X-Amz-Signature=x#y',
      'http://minio/images/disk.img?versionId=a%2Fb%20c',
      'us-east-1',
    ],
  ] as const) {
    it(`are read from ${url}`, () => {
      const address = parseS3Url(url);
      assert.equal(address.url.href, href);
      assert.equal(address.region, region);
    });
  }

  for (const [url, message] of [
    ['s3://images', /no object/u],
    ['s3://images/', /no object/u],
    ['s3:///disk.img', /no object/u],
    ['s3://images/a/../b', /element \. or \.\./u],
    ['s3://../b', /element \. or \.\./u],
    ['s3://images/\ud800', /not well-formed/u],
    ['http://minio/images', /no object/u],
    ['http://minio/images/', /no object/u],
    ['http://minio/', /no object/u],
    ['http://minio/images//', /no object/u],
    ['http://minio//', /no object/u],
    ['https://images.s3.eu-west-1.amazonaws.com//', /no object/u],
    ['https://images.s3.eu-west-1.amazonaws.com/', /no object/u],
    ['https://s3.eu-west-1.amazonaws.com/images/', /no object/u],
    ['https://s3-eu-west-1.amazonaws.com/images', /no object/u],
    ['http://minio/images/%ff', /no UTF-8/u],
    ['http://minio/images/a%2f%2e%2e%2fb', /element \. or \.\./u],
    ['images/disk.img', /not an absolute URL/u],
    ['ftp://images/disk.img', /scheme ftp/u],
  ] as const) {
    it(`are refused when they name no object: ${JSON.stringify(url)}`, async () => {
      await fails((async () => parseS3Url(url))(), 'InvalidDataVolume', message);
    });
  }

  it('are refused with credentials in them, which are not shown', async () => {
    for (const url of [
      's3://AKID:pass-word@images/disk.img',
      's3://AKID:pass-/word@images/disk.img',
      's3://AKID@b/k',
    ]) {
      const error = await fails(
        (async () => parseS3Url(url))(),
        'InvalidDataVolume',
        /no bucket has @ or :/u,
      );
      assert.doesNotMatch(inspect(error, { depth: 10 }), /AKID|pass-/u);
    }
  });

  for (const [url, host] of [
    ['s3://images/disk.img', 'images.s3.eu-west-3.amazonaws.com'],
    ['s3://with.dots/disk.img', 's3.eu-west-3.amazonaws.com'],
    ['https://images.s3.amazonaws.com/disk.img', 'images.s3.eu-west-3.amazonaws.com'],
    ['https://us-west-2.s3.amazonaws.com/disk.img', 'us-west-2.s3.eu-west-3.amazonaws.com'],
    ['https://s3-us-west-2.amazonaws.com/images/disk.img', 's3.eu-west-3.amazonaws.com'],
    [
      'https://images.s3.dualstack.us-west-2.amazonaws.com/disk.img',
      'images.s3.dualstack.eu-west-3.amazonaws.com',
    ],
    [
      'https://bucket.vpce-1a2b-5e6f.s3.eu-west-1.vpce.amazonaws.com/images/disk.img',
      'bucket.vpce-1a2b-5e6f.s3.eu-west-1.vpce.amazonaws.com',
    ],
    ['https://images.s3-accelerate.amazonaws.com/disk.img', 'images.s3-accelerate.amazonaws.com'],
    [
      'https://images.s3-accelerate.dualstack.amazonaws.com/disk.img',
      'images.s3-accelerate.dualstack.amazonaws.com',
    ],
    ['https://s3-external-1.amazonaws.com/images/disk.img', 's3-external-1.amazonaws.com'],
    ['http://minio:9000/images/disk.img', 'minio:9000'],
  ] as const) {
    it(`have another host in another region, at AWS only: ${url}`, () => {
      const before = parseS3Url(url);
      const moved = inRegion(before, 'eu-west-3');
      assert.equal(moved?.url.host, host);
      assert.equal(moved.url.pathname, before.url.pathname);
      assert.equal(moved.region, 'eu-west-3');
    });
  }

  it('begin with the bucket at the endpoint of a network too, but not with the word `bucket` that is its name', async () => {
    const network = 'bucket.vpce-1a-5e.s3.eu-west-1.vpce.amazonaws.com';
    const url = `https://images.${network}/disk.img`;
    assert.equal(parseS3Url(url).url.href, url);
    await fails((async () => parseS3Url(`https://${network}/images`))(), 'InvalidDataVolume', /no object/u);
  });

  it('do not follow to a region that is none', () => {
    const address = parseS3Url('s3://images/disk.img');
    for (const region of ['', 'evil.example.com', 'a/b', 'a@b', '-a', 'a'.repeat(64)]) {
      assert.equal(inRegion(address, region), undefined, region);
    }
  });
});
