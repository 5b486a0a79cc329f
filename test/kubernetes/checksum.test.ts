import assert from 'node:assert/strict';
import { buildSourceRequest } from '../../activities/kubernetes/source-request.js';
import { rejects } from './support/fixtures.js';

const none = async () => undefined;
const lookup = { secret: none, configMap: none };
const build = async (checksum: string) =>
  await buildSourceRequest({ http: { url: 'http://a/', checksum } }, { lookup, namespace: 'team-a' });

describe('checksums of a DataVolume', () => {
  const md5 = '5eb63bbbe01eeed093cb22bb8f5acdc3';
  for (const [text, read] of [
    [`md5:${md5}`, `md5:${md5}`],
    [` MD5:${md5.toUpperCase()} `, `md5:${md5}`],
    [`sha512:${'0'.repeat(128)}`, `sha512:${'0'.repeat(128)}`],
  ] as const) {
    it(`reads ${text.slice(0, 20)}`, async () => {
      const request = await build(text);
      assert.ok('checksum' in request);
      assert.equal(request.checksum, read);
    });
  }
  for (const [text, message] of [
    [md5, /expected 'algorithm:hash', got '5eb6/],
    ['sha256:abc:123', /expected 'algorithm:hash'/],
    [`sha384:${'0'.repeat(96)}`, /unsupported hash algorithm 'sha384'/],
    ['sha256:', /checksum hash value cannot be empty/],
    [`sha256:${md5}`, /invalid sha256 hash length: expected 64 hex characters, got 32/],
    [`md5:${'z'.repeat(32)}`, /not valid hexadecimal/],
    ['constructor:00', /unsupported hash algorithm/],
  ] as const) {
    it(`refuses ${text.slice(0, 20)}`, async () => {
      await rejects(build(text), 'InvalidDataVolume', message);
    });
  }
});
