import assert from 'node:assert/strict';
import { ApplicationFailure } from '@temporalio/common';
import { displayUrl } from '../../activities/image/source/display-url.js';
import { readManifest } from '../../activities/kubernetes/manifests.js';
import { sourceKind } from '../../activities/kubernetes/sources.js';
import type { DataVolumeManifest } from '../../activities/types.js';

const spec = { source: { http: { url: 'http://a.example/disk' } } };
const minimal = { metadata: { name: 'vm1' }, spec };

describe('readManifest', () => {
  it('reads object, JSON and YAML alike', () => {
    const read = readManifest(minimal);
    assert.deepEqual([read.version, read.namespace, read.name], ['v1beta1', 'default', 'vm1']);
    assert.deepEqual(readManifest(JSON.stringify(minimal)), read);
    assert.deepEqual(
      readManifest('metadata:\n  name: vm1\nspec:\n  source: {http: {url: "http://a.example/disk"}}\n'),
      read,
    );
  });

  const refused: [string, unknown, RegExp][] = [
    ['nothing', '', /the manifest is empty/],
    ['plain text', 'hello', /no DataVolume manifest/],
    ['a list', [], /no DataVolume manifest/],
    ['two documents', 'a: 1\n---\nb: 2\n', /holds 2 manifests: give one/],
    ['broken text', '{"metadata": ', /neither JSON nor YAML/],
    ['another kind', { ...minimal, kind: 'Pod' }, /kind is "Pod"/],
    ['another group', { ...minimal, apiVersion: 'v1' }, /apiVersion is "v1"/],
    ['no metadata', { spec }, /metadata.name is missing/],
    ['generateName', { metadata: { generateName: 'vm-' }, spec }, /metadata.name is missing/],
    [
      'a namespace that is no name',
      { metadata: { name: 'a', namespace: 1 }, spec },
      /metadata.namespace is 1/,
    ],
    ['labels that are numbers', { metadata: { name: 'a', labels: { a: 1 } }, spec }, /metadata.labels/],
    ['no spec', { metadata: { name: 'a' } }, /spec is missing/],
    [
      'user info',
      { ...minimal, spec: { source: { http: { url: 'https://u:p4ss@a.example/' } } } },
      /url carries user info.*name a Secret.*secretRef/,
    ],
    [
      'user info for s3',
      { ...minimal, spec: { source: { s3: { url: 'https://u@a.example/' } } } },
      /url carries user info/,
    ],
    [
      'Authorization',
      {
        ...minimal,
        spec: { source: { http: { url: 'http://a/', extraHeaders: ['X: 1', ' authorization : p4ss'] } } },
      },
      /extraHeaders carries authorization.*name a Secret in secretExtraHeaders/,
    ],
    [
      'Cookie',
      { ...minimal, spec: { source: { http: { url: 'http://a/', extraHeaders: ['Cookie: p4ss'] } } } },
      /carries cookie/,
    ],
  ];
  for (const [what, value, message] of refused) {
    it(`refuses ${what}`, () => {
      assert.throws(
        () => readManifest(value as DataVolumeManifest),
        (error) => {
          assert.ok(
            error instanceof ApplicationFailure && error.type === 'InvalidDataVolume' && error.nonRetryable,
          );
          assert.match(error.message, message);
          assert.doesNotMatch(error.message, /p4ss/);
          return true;
        },
      );
    });
  }

  it('does not expand aliases without bound', () => {
    const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n`;
    assert.throws(
      () => readManifest(bomb),
      (error) => error instanceof ApplicationFailure && error.type === 'InvalidDataVolume',
    );
  });
});

describe('sourceKind', () => {
  for (const [kind, value] of [
    ['http', { source: { http: { url: 'x' } } }],
    ['blank', { source: { blank: {} } }],
    ['pvc', { source: { pvc: {} } }],
    ['sourceRef', { sourceRef: {} }],
    ['external', { pvc: {} }],
  ] as const) {
    it(kind, () => assert.equal(sourceKind(value as never), kind));
  }
});

describe('displayUrl', () => {
  it('shows neither user info nor query', () => {
    assert.equal(
      displayUrl('https://u:p@a.example:8443/b/c.qcow2?sig=1#f'),
      'https://a.example:8443/b/c.qcow2',
    );
    assert.equal(displayUrl('not a url'), '(not a URL)');
  });
});
