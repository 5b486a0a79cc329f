import { IMPORT } from './requests.js';
import type { RefusedCase } from './refused-targets.js';

const { source, pvc } = IMPORT;
const http = (members: object): unknown => ({ source: { http: { ...source.http, ...members } }, pvc });
const from = (members: object): unknown => ({ source: members, pvc });
const registry = (members: object): unknown => from({ registry: members });
const imageio = { url: 'https://ovirt.example.com', diskId: '1', secretRef: 's', certConfigMap: 'ca' };
const vddk = {
  url: 'https://vcenter.example.com',
  secretRef: 's',
  uuid: 'u',
  backingFile: '[ds] vm.vmdk',
  thumbprint: 'AA',
};

/** Of the URL of each source that has one. */
const URLS: readonly RefusedCase[] = Object.entries({ http: {}, s3: {}, gcs: {}, imageio, vddk }).flatMap(
  ([name, members]): readonly RefusedCase[] => {
    const at = (url: string): unknown => from({ [name]: { ...members, url } });
    return [
      [`${name} with an empty URL`, at(''), 'spec.source source URL is empty'],
      [`${name} with a URL that is none`, at('example'), 'spec.source Invalid source URL: example'],
      [`${name} with ftp`, at('ftp://a/b'), 'spec.source Invalid source URL scheme: ftp://a/b'],
    ];
  },
);

/** Of where the content comes from. */
const SOURCES: readonly RefusedCase[] = [
  ...URLS,
  ['no source', { pvc }, 'Data volume should have either Source or SourceRef, or be externally populated'],
  [
    'source and sourceRef',
    { source, sourceRef: { kind: 'DataSource', name: 'a' }, pvc },
    'Data volume should have either Source or SourceRef, or be externally populated',
  ],
  ['a sourceRef of kind ""', { sourceRef: { kind: '', name: 'a' }, pvc }, 'Missing sourceRef kind'],
  [
    'a sourceRef of another kind',
    { sourceRef: { kind: 'ConfigMap', name: 'a' }, pvc },
    'Unsupported sourceRef kind ConfigMap, currently only DataSource is supported',
  ],
  ['a sourceRef of name ""', { sourceRef: { kind: 'DataSource', name: '' }, pvc }, 'Missing sourceRef name'],
  ['an empty source', from({}), 'Missing Data volume source'],
  ['two sources', from({ ...source, blank: {} }), 'Multiple Data volume sources'],
  [
    'a content type of its own',
    { ...IMPORT, contentType: 'iso' },
    'ContentType not one of: kubevirt, archive',
  ],
  [
    'a blank archive',
    { source: { blank: {} }, pvc, contentType: 'archive' },
    'SourceType cannot be blank and the contentType be archive',
  ],
  [
    'a URL of 8193 characters',
    http({ url: `http://a/${'b'.repeat(8184)}` }),
    /Too long: may not be more than 8192/,
  ],
  ['a missing URL', from({ http: {} }), /http.url: Required value/],
  [
    'a URL with a broken escape',
    http({ url: 'http://a/%zz' }),
    'spec.source Invalid source URL: http://a/%zz',
  ],
  ['a path instead of a URL', http({ url: '/disk.img' }), 'spec.source Invalid source URL scheme: /disk.img'],
  ['httpx', http({ url: 'httpx://a/b' }), 'spec.source Invalid source URL scheme: httpx://a/b'],
  [
    's3 with the scheme s3',
    from({ s3: { url: 's3://b/k' } }),
    'spec.source Invalid source URL scheme: s3://b/k',
  ],
  ['vddk without URL', from({ vddk: { ...vddk, url: undefined } }), 'spec.source source URL is empty'],
  [
    'imageio without diskId',
    from({ imageio: { ...imageio, diskId: '' } }),
    'spec.source.Imageio source Imageio is not valid',
  ],
  [
    'imageio without secretRef',
    from({ imageio: { ...imageio, secretRef: undefined } }),
    'spec.source.Imageio source Imageio is not valid',
  ],
  [
    'imageio that trusts nobody',
    from({ imageio: { ...imageio, certConfigMap: undefined } }),
    'spec.source.Imageio source Imageio requires CertConfigMap or InsecureSkipVerify',
  ],
  ...(['secretRef', 'uuid', 'backingFile', 'thumbprint'] as const).map((member): RefusedCase => [
    `vddk without ${member}`,
    from({ vddk: { ...vddk, [member]: undefined } }),
    'spec.source.VDDK source VDDK is not valid',
  ]),
  ['a clone of a claim without name', from({ pvc: { namespace: 'a', name: '' } }), 'source PVC is not valid'],
  [
    'a clone of a claim without namespace',
    from({ pvc: { namespace: '', name: 'a' } }),
    'source PVC is not valid',
  ],
  [
    'a clone of a snapshot without name',
    from({ snapshot: { namespace: 'a', name: '' } }),
    'source snapshot is not valid',
  ],
];

/** Of a registry. */
const REGISTRIES: readonly RefusedCase[] = [
  [
    'an archive from a registry',
    { source: { registry: { url: 'docker://a/b' } }, pvc, contentType: 'archive' },
    'ContentType must be kubevirt when Source is Registry',
  ],
  ['neither URL nor image stream', registry({}), 'Source registry should have either URL or ImageStream'],
  [
    'both URL and image stream',
    registry({ url: 'docker://a/b', imageStream: 'c', pullMethod: 'node' }),
    'Source registry should have either URL or ImageStream',
  ],
  ['a registry URL that is none', registry({ url: 'example' }), 'Illegal registry source URL example'],
  ['an https registry', registry({ url: 'https://a/b' }), 'Illegal registry source URL scheme https'],
  [
    'an unknown pull method',
    registry({ url: 'docker://a/b', pullMethod: 'x' }),
    'ImportMethod x is neither pod, node or ""',
  ],
  [
    'an empty image stream',
    registry({ imageStream: '', pullMethod: 'node' }),
    'Source registry ImageStream is not valid',
  ],
  [
    'an image stream with pull method pod',
    registry({ imageStream: 'a', pullMethod: 'pod' }),
    'Source registry ImageStream is supported only with node pull import method',
  ],
];

const checksum = (title: string, text: string, says: string): RefusedCase => [
  `checksum: ${title}`,
  http({ checksum: text }),
  `Invalid checksum format: ${says}`,
];

/** Of a checksum. */
const CHECKSUMS: readonly RefusedCase[] = [
  checksum('no algorithm', 'abc', "invalid checksum format: expected 'algorithm:hash', got 'abc'"),
  checksum('two colons', 'md5:a:b', "invalid checksum format: expected 'algorithm:hash', got 'md5:a:b'"),
  checksum('empty digest', 'sha256:', 'checksum hash value cannot be empty'),
  checksum(
    'unknown algorithm',
    'CRC32:abcd',
    "unsupported hash algorithm 'crc32': supported algorithms are: md5, sha1, sha256, sha512",
  ),
  checksum(
    'md5 too long',
    `md5:${'a'.repeat(33)}`,
    'invalid md5 hash length: expected 32 hex characters, got 33',
  ),
  checksum('sha1 too short', 'SHA1:abc', 'invalid sha1 hash length: expected 40 hex characters, got 3'),
  checksum('sha256 too short', 'sha256:abc', 'invalid sha256 hash length: expected 64 hex characters, got 3'),
  checksum(
    'sha512 of sha256 length',
    `sha512:${'a'.repeat(64)}`,
    'invalid sha512 hash length: expected 128 hex characters, got 64',
  ),
  checksum('not hexadecimal', `sha256:${'g'.repeat(64)}`, 'checksum hash is not valid hexadecimal'),
  ...Object.entries({
    s3: 'https://s3.example.com/b/k',
    gcs: 'gs://b/o',
    registry: 'docker://registry.example.com/a:b',
  }).map(([kind, url]): RefusedCase => [
    `checksum: of ${kind}`,
    from({ [kind]: { url, checksum: 'sha256:abc' } }),
    'Invalid checksum format: invalid sha256 hash length: expected 64 hex characters, got 3',
  ]),
];

/** What CDI's webhook refuses in a source (`reference/cdi.md` §1.5, checks 13 to 23), and what is said. */
export const REFUSED_SOURCES: readonly RefusedCase[] = [...SOURCES, ...REGISTRIES, ...CHECKSUMS];
