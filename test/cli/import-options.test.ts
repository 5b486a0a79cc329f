import assert from 'node:assert/strict';
import { resultText } from '../../cli/commands/import.js';
import { CliError } from '../../cli/errors.js';
import { blankManifestOf, cloneManifestOf, manifestOf } from '../../cli/manifest.js';

const options = { name: 'vm1', namespace: 'team-a', size: '10Gi' };
const url = 'https://images.example/disk.qcow2';

describe('dvflow import', () => {
  it('writes the manifest that a user would write', () => {
    assert.deepEqual(manifestOf(url, options), {
      apiVersion: 'cdi.kubevirt.io/v1beta1',
      kind: 'DataVolume',
      metadata: {
        name: 'vm1',
        namespace: 'team-a',
        annotations: { 'cdi.kubevirt.io/storage.bind.immediate.requested': 'true' },
      },
      spec: { source: { http: { url } }, storage: { resources: { requests: { storage: '10Gi' } } } },
    });
  });

  it('waits for a consumer only when told to', () => {
    assert.equal(manifestOf(url, { ...options, waitForConsumer: true }).metadata.annotations, undefined);
  });

  it('gives a claim under pvc its one access mode', () => {
    assert.deepEqual(manifestOf(url, { ...options, pvc: true, storageClass: 'fast' }).spec.pvc, {
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: '10Gi' } },
      storageClassName: 'fast',
    });
  });

  it('carries every option of the source under CDI’s name', () => {
    const source = manifestOf(url, {
      ...options,
      checksum: 'sha256:00',
      secret: 'basic',
      certConfigMap: 'ca',
      header: ['X-A: 1'],
      secretHeader: ['token'],
      insecureSkipVerify: true,
    }).spec.source;
    assert.deepEqual(source, {
      http: {
        url,
        checksum: 'sha256:00',
        secretRef: 'basic',
        certConfigMap: 'ca',
        extraHeaders: ['X-A: 1'],
        secretExtraHeaders: ['token'],
        insecureSkipVerify: true,
      },
    });
  });

  for (const [address, kind, more, source] of [
    [
      's3://bucket/a key',
      's3',
      { secret: 'keys', certConfigMap: 'ca' },
      {
        url: 'https://bucket.s3.us-east-1.amazonaws.com/a%20key',
        secretRef: 'keys',
        certConfigMap: 'ca',
      },
    ],
    ['https://s3.example/bucket/key', 's3', { source: 's3' }, {}],
    ['gs://bucket/key', 'gcs', { checksum: 'md5:00' }, { checksum: 'md5:00' }],
    ['docker://quay.example/disk:1', 'registry', { arch: 'arm64' }, { platform: { architecture: 'arm64' } }],
  ] as const)
    it(`knows source ${kind} by ${address}`, () => {
      const { spec } = manifestOf(address, { ...options, ...more });
      assert.deepEqual(spec.source, { [kind]: { url: address, ...source } });
    });

  it('refuses what a kind of source does not have, and unpacks archives', () => {
    const refused = { name: 'CliError', message: '--secret-header is no option of source s3, only of http' };
    assert.throws(() => manifestOf('s3://b/k', { ...options, secretHeader: ['x'] }), refused);
    assert.throws(() => manifestOf('gs://b/k', { ...options, certConfigMap: 'x' }), CliError);
    assert.equal(manifestOf(url, { ...options, contentType: 'archive' }).spec.contentType, 'archive');
  });

  it('tells where the disk is, with what is known', () => {
    const claim = { namespace: 'team-a', name: 'vm1' };
    assert.equal(resultText({ claim }), 'claim team-a/vm1');
    assert.equal(
      resultText({
        claim,
        volume: 'pvc-1',
        node: 'n1',
        virtualSize: 2 ** 31,
        bytesTransferred: 2 ** 20,
        bytesWritten: 2 ** 30,
      }),
      'claim team-a/vm1 is Bound to pvc-1 on node n1: disk 2 GiB, read 1 MiB, wrote 1 GiB',
    );
  });
});

describe('dvflow blank', () => {
  it('writes the manifest that a user would write', () => {
    assert.deepEqual(blankManifestOf({ ...options, name: 'data' }), {
      apiVersion: 'cdi.kubevirt.io/v1beta1',
      kind: 'DataVolume',
      metadata: {
        name: 'data',
        namespace: 'team-a',
        annotations: { 'cdi.kubevirt.io/storage.bind.immediate.requested': 'true' },
      },
      spec: { source: { blank: {} }, storage: { resources: { requests: { storage: '10Gi' } } } },
    });
  });

  it('says of preallocation only what it was told, and that it is not wanted too', () => {
    assert.equal('preallocation' in blankManifestOf(options).spec, false);
    assert.equal(blankManifestOf({ ...options, preallocation: true }).spec.preallocation, true);
    assert.equal(blankManifestOf({ ...options, preallocation: false }).spec.preallocation, false);
  });

  it('asks for a block device under pvc', () => {
    const made = blankManifestOf({ ...options, pvc: true, volumeMode: 'Block', storageClass: 'local' });
    assert.deepEqual(made.spec.pvc, {
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: '10Gi' } },
      storageClassName: 'local',
      volumeMode: 'Block',
    });
  });
});

describe('dvflow clone', () => {
  const clone = { name: 'copy', namespace: 'team-a' };

  it('writes the manifest that a user would write; a size that is left out stays so', () => {
    assert.deepEqual(cloneManifestOf('images/golden', clone), {
      apiVersion: 'cdi.kubevirt.io/v1beta1',
      kind: 'DataVolume',
      metadata: {
        name: 'copy',
        namespace: 'team-a',
        annotations: { 'cdi.kubevirt.io/storage.bind.immediate.requested': 'true' },
      },
      spec: { source: { pvc: { namespace: 'images', name: 'golden' } }, storage: {} },
    });
    const sized = { ...clone, size: '10Gi', storageClass: 'fast', volumeMode: 'Block' } as const;
    assert.deepEqual(cloneManifestOf('golden', sized).spec, {
      source: { pvc: { namespace: 'team-a', name: 'golden' } },
      storage: {
        resources: { requests: { storage: '10Gi' } },
        storageClassName: 'fast',
        volumeMode: 'Block',
      },
    });
  });

  it('names a DataSource, and says that files are cloned', () => {
    const { spec } = cloneManifestOf('images/os', { ...clone, dataSource: true, contentType: 'archive' });
    assert.deepEqual(spec, {
      sourceRef: { kind: 'DataSource', namespace: 'images', name: 'os' },
      contentType: 'archive',
      storage: {},
    });
  });

  it('refuses what names no claim, and a claim without a size', () => {
    for (const source of ['', '/', 'a/', '/b', 'a/b/c'])
      assert.throws(() => cloneManifestOf(source, clone), /is no source: give NAME or NAMESPACE\/NAME/);
    assert.throws(() => cloneManifestOf('golden', { ...clone, pvc: true }), /--pvc needs --size/);
  });
});
