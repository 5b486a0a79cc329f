import assert from 'node:assert/strict';
import { parseGcsUrl } from '../../../activities/image/source/gcs-address.js';
import { fails } from './open.js';

describe('addresses of GCS objects', () => {
  for (const [url, href] of [
    ['gs://images/disk.img', 'https://storage.googleapis.com/storage/v1/b/images/o/disk.img'],
    [
      'GS://images/a/b c%20+?#d',
      'https://storage.googleapis.com/storage/v1/b/images/o/a%2Fb%20c%2520%2B%3F%23d',
    ],
    [
      'https://storage.googleapis.com/images/a%20b/c',
      'https://storage.googleapis.com/storage/v1/b/images/o/a%20b%2Fc',
    ],
    [
      'https://storage.cloud.google.com/images/disk.img',
      'https://storage.googleapis.com/storage/v1/b/images/o/disk.img',
    ],
    [
      'https://my.images.storage.googleapis.com/a/b',
      'https://storage.googleapis.com/storage/v1/b/my.images/o/a%2Fb',
    ],
    [
      'http://me:pass@fake-gcs:4443/images/disk.img?x=y#z',
      'http://fake-gcs:4443/storage/v1/b/images/o/disk.img',
    ],
  ] as const) {
    it(`are read from ${url}`, () => assert.equal(parseGcsUrl(url).url.href, href));
  }

  for (const [url, message] of [
    ['gs://images', /no object/u],
    ['gs://images/', /no object/u],
    ['gs:///disk.img', /no object/u],
    ['gs://../disk.img', /no object/u],
    ['gs://images/..', /no object/u],
    ['gs://images/\udc00', /not well-formed/u],
    ['https://fake-gcs/images', /no object/u],
    ['https://fake-gcs/', /no object/u],
    ['https://fake-gcs/images/%ff', /no UTF-8/u],
    ['ftp://images/disk.img', /scheme ftp/u],
    ['gs://me:pass@images/disk.img', /no bucket has @ or :/u],
  ] as const) {
    it(`are refused when they name no object: ${JSON.stringify(url)}`, async () => {
      await fails((async () => parseGcsUrl(url))(), 'InvalidDataVolume', message);
    });
  }
});
