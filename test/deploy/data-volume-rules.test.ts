import assert from 'node:assert/strict';
import { useStack } from '../support/stack.js';
import { REFUSED_SOURCES } from './refused-sources.js';
import { REFUSED_TARGETS } from './refused-targets.js';
import { IMPORT, claim, dataVolume, refusal, storage } from './requests.js';

const { source, pvc } = IMPORT;
const http = (members: object): unknown => ({ source: { http: { ...source.http, ...members } }, pvc });
const populator = { apiGroup: 'populators.example.com', kind: 'Filler', name: 'filler' };
const cloned = { pvc: { namespace: 'a', name: 'b' } };

const ACCEPTED: readonly (readonly [title: string, spec: unknown])[] = [
  ['an import under pvc', IMPORT],
  ['an import under storage', { source, storage: storage('1Gi') }],
  ['exactly 1 MiB', { source, pvc: claim('1Mi') }],
  ['an integer size', { source, pvc: claim(1048576) }],
  ['a decimal size', { source, pvc: claim('1.5G') }],
  ['storage without size for a clone of a claim', { source: cloned, storage: {} }],
  ['storage without size for a clone of a snapshot', { source: { snapshot: cloned.pvc }, storage: {} }],
  ['storage without size for a sourceRef', { sourceRef: { kind: 'DataSource', name: 'a' }, storage: {} }],
  [
    'a sourceRef into another namespace',
    { sourceRef: { kind: 'DataSource', name: 'a', namespace: 'b' }, storage: {} },
  ],
  [
    'storage with several access modes',
    {
      source,
      storage: { ...storage('1Gi'), accessModes: ['ReadWriteOnce', 'ReadWriteMany', 'ReadOnlyMany'] },
    },
  ],
  ['access mode ReadWriteOncePod', { source, pvc: { ...pvc, accessModes: ['ReadWriteOncePod'] } }],
  ['volume mode FromStorageProfile', { source, pvc: { ...pvc, volumeMode: 'FromStorageProfile' } }],
  ['a class name of 253 characters', { source, pvc: { ...pvc, storageClassName: 'c'.repeat(253) } }],
  ['an empty class name', { source, pvc: { ...pvc, storageClassName: '' } }],
  ['external population by dataSourceRef', { pvc: { ...pvc, dataSourceRef: populator } }],
  ['external population by dataSource', { storage: { ...storage('1Gi'), dataSource: populator } }],
  [
    'population from a claim, without apiGroup',
    { pvc: { ...pvc, dataSource: { kind: 'PersistentVolumeClaim', name: 'a' } } },
  ],
  ['an archive', { ...IMPORT, contentType: 'archive' }],
  ['an upload', { source: { upload: {} }, pvc }],
  ['a blank disk', { source: { blank: {} }, pvc }],
  ['an upper-case scheme', http({ url: 'HTTPS://images.example.com/a' })],
  ['a URL with user, port and query', http({ url: 'http://u:p@[2001:db8::1]:8080/a%20b?c=d&e=f' })],
  ['a URL of 8192 characters', http({ url: `http://a/${'b'.repeat(8183)}` })],
  ['s3', { source: { s3: { url: 'https://s3.example.com/b/k', secretRef: 's' } }, pvc }],
  ['gcs', { source: { gcs: { url: 'gs://bucket/object' } }, pvc }],
  ['a registry', { source: { registry: { url: 'docker://registry.example.com/a:b' } }, pvc }],
  [
    's3 with a checksum',
    { source: { s3: { url: 'https://s3.example.com/b/k', checksum: `sha1: ${'A'.repeat(40)}` } }, pvc },
  ],
  [
    'gcs with a checksum',
    { source: { gcs: { url: 'gs://bucket/object', checksum: `md5:${'0'.repeat(32)}` } }, pvc },
  ],
  [
    'a registry with a checksum',
    {
      source: { registry: { url: 'docker://registry.example.com/a', checksum: `sha256:${'a'.repeat(64)}` } },
      pvc,
    },
  ],
  ['a registry archive', { source: { registry: { url: 'oci-archive:///a/b.tar', pullMethod: 'pod' } }, pvc }],
  ['an image stream', { source: { registry: { imageStream: 'a', pullMethod: 'node' } }, pvc }],
  [
    'imageio',
    {
      source: { imageio: { url: 'https://a/b', diskId: '1', secretRef: 's', insecureSkipVerify: true } },
      pvc,
    },
  ],
  ['md5', http({ checksum: `md5:${'a'.repeat(32)}` })],
  ['sha1 in capitals', http({ checksum: `SHA1:${'A'.repeat(40)}` })],
  ['sha256 between blanks', http({ checksum: ` sha256: ${'0'.repeat(64)} ` })],
  ['sha512', http({ checksum: `sha512:${'f'.repeat(128)}` })],
  ['many headers', http({ extraHeaders: Array.from({ length: 100 }, (_, index) => `X-${index}: y`) })],
];

describe('DataVolume rules', function () {
  this.timeout(20_000);
  const stack = useStack();

  describe('refuse', () => {
    [...REFUSED_TARGETS, ...REFUSED_SOURCES].forEach(([title, spec, says]) => {
      it(title, async () => {
        const message = (await refusal(stack.kubeConfig, dataVolume('refused', spec))) ?? 'accepted';
        const said = typeof says === 'string' ? message.includes(says) : says.test(message);
        assert.ok(said, `expected ${String(says)}, got: ${message}`);
      });
    });

    it('through v1alpha1 too', async () => {
      const old = dataVolume('refused', { source }, { version: 'v1alpha1' });
      assert.match((await refusal(stack.kubeConfig, old)) ?? '', /Missing Data volume PVC/);
    });

    it('a field that does not exist, when kubectl asks', async () => {
      const input = JSON.stringify(dataVolume('refused', { ...IMPORT, sourc: {} }));
      await assert.rejects(
        stack.kubectl(['create', '--dry-run=server', '-f', '-'], { input }),
        /strict decoding error: unknown field "spec.sourc"/,
      );
    });
  });

  describe('accept', () => {
    ACCEPTED.forEach(([title, spec]) => {
      it(title, async () => {
        assert.equal(await refusal(stack.kubeConfig, dataVolume('accepted', spec)), undefined);
      });
    });
  });
});
