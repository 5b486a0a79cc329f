import assert from 'node:assert/strict';
import type { V1StorageClass } from '@kubernetes/client-node';
import {
  activeCdi,
  configSpec,
  configStatus,
  hasAuthority,
  takeOver,
} from '../../activities/kubernetes/cdi-config.js';
import type { Cdi, CdiConfigSpec } from '../../activities/kubernetes/objects.js';
import { filesystemOverhead } from '../../activities/kubernetes/overhead.js';

const AUTHORITY = 'cdi.kubevirt.io/configAuthority';
const classes = (...names: string[]): V1StorageClass[] =>
  names.map((name) => ({ metadata: { name }, provisioner: 'p' }));
const cdi = (name: string, more: { spec?: Cdi['spec']; phase?: string; metadata?: object } = {}): Cdi => ({
  metadata: { name, namespace: '', uid: name, ...more.metadata },
  ...(more.spec ? { spec: more.spec } : {}),
  status: { phase: more.phase ?? 'Deployed' },
});

describe('the status of CDIConfig', () => {
  it('says the defaults where the specification says nothing, for every class', () => {
    assert.deepEqual(configStatus({}, undefined, classes('b', 'a')), {
      preallocation: false,
      scratchSpaceStorageClass: '',
      filesystemOverhead: { global: '0.06', storageClass: { a: '0.06', b: '0.06' } },
      defaultPodResourceRequirements: {
        limits: { cpu: '750m', memory: '600M' },
        requests: { cpu: '100m', memory: '60M' },
      },
    });
  });

  it('names the class of scratch space only where it exists', () => {
    const scratch = (...names: string[]) =>
      configStatus({ scratchSpaceStorageClass: 'fast' }, undefined, classes(...names))
        .scratchSpaceStorageClass;
    assert.equal(scratch('slow', 'fast'), 'fast');
    assert.equal(scratch('slow'), '');
  });

  it('passes over overheads that are none, per class and in all', () => {
    const overheads = (spec: object, ...names: string[]) =>
      configStatus({ filesystemOverhead: spec }, undefined, classes(...names)).filesystemOverhead;
    assert.deepEqual(
      overheads({ global: '0.1', storageClass: { a: '0.5', b: 'much', gone: '0' } }, 'a', 'b', 'c'),
      {
        global: '0.1',
        storageClass: { a: '0.5', b: '0.1', c: '0.1' },
      },
    );
    assert.deepEqual(overheads({ global: '1.5' }, 'a'), { global: '0.06', storageClass: { a: '0.06' } });
    assert.deepEqual(overheads({ storageClass: {} }, 'constructor')?.storageClass, { constructor: '0.06' });
  });

  it('takes CPU and memory from the specification, one by one, and nothing else', () => {
    const podResourceRequirements = {
      limits: { memory: '1G', 'ephemeral-storage': '1G' },
      requests: { cpu: 1 },
    };
    assert.deepEqual(
      configStatus({ podResourceRequirements }, undefined, []).defaultPodResourceRequirements,
      {
        limits: { cpu: '750m', memory: '1G' },
        requests: { cpu: 1, memory: '60M' },
      },
    );
  });

  it('keeps where uploads go, and lets go of what the specification no longer says', () => {
    const proxied = { importProxy: { HTTPProxy: 'http://proxy:3128' }, imagePullSecrets: [{ name: 's' }] };
    const uploads = { uploadProxyURL: 'cdi.example', uploadProxyCA: 'PEM' };
    const first = configStatus({ ...proxied, preallocation: true }, uploads, []);
    assert.deepEqual({ ...first, ...proxied, ...uploads, preallocation: true }, first);
    const second = configStatus({}, first, []);
    assert.deepEqual(
      Object.keys(second).sort(),
      [
        'defaultPodResourceRequirements',
        'filesystemOverhead',
        'preallocation',
        'scratchSpaceStorageClass',
        'uploadProxyCA',
        'uploadProxyURL',
      ].sort(),
    );
    assert.equal(second.preallocation, false);
  });

  it('tells where uploads go: what the specification says, else what the control role was told', () => {
    const told = (spec: CdiConfigSpec, url?: string): string | undefined =>
      configStatus(spec, { uploadProxyURL: 'old.example' }, [], url).uploadProxyURL;
    assert.equal(told({}, 'https://gateway.example'), 'https://gateway.example');
    assert.equal(told({ uploadProxyURLOverride: 'mine.example' }, 'https://gateway.example'), 'mine.example');
    assert.equal(told({}), 'old.example');
  });
});

describe('who configures', () => {
  it('is the only CDI, or the only one that works', () => {
    assert.equal(activeCdi([]), undefined);
    assert.equal(activeCdi([cdi('a', { phase: 'Error' })])?.metadata.name, 'a');
    assert.equal(activeCdi([cdi('a'), cdi('b')]), undefined);
    assert.equal(activeCdi([cdi('a', { phase: 'Error' }), cdi('b')])?.metadata.name, 'b');
    const going = cdi('a', { metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } });
    assert.equal(activeCdi([going]), undefined);
  });

  it('is CDIConfig itself, until a CDI has the authority', () => {
    const config = { spec: { preallocation: true } };
    const silent = cdi('a', { spec: { config: { featureGates: ['x'] } } });
    assert.deepEqual(configSpec(config, undefined), { preallocation: true });
    assert.deepEqual(configSpec(config, silent), { preallocation: true });
    const ruling = takeOver(silent, config);
    assert.equal(hasAuthority(ruling), true);
    assert.deepEqual(configSpec(config, ruling), { featureGates: ['x'] });
    assert.deepEqual(configSpec(config, cdi('b', { metadata: { annotations: { [AUTHORITY]: '' } } })), {});
  });

  it('goes on with what was configured where it says nothing itself', () => {
    const config = { spec: { featureGates: ['HonorWaitForFirstConsumer'] } };
    const annotations = { mine: 'too' };
    const taken = takeOver(cdi('a', { metadata: { annotations } }), config);
    assert.deepEqual(taken.metadata.annotations, { mine: 'too', [AUTHORITY]: '' });
    assert.deepEqual(taken.spec?.config, config.spec);
    assert.equal(takeOver(cdi('a'), { spec: {} }).spec?.config, undefined);
    assert.equal(takeOver(cdi('a'), undefined).spec?.config, undefined);
  });
});

describe('the overhead of a class', () => {
  it('is what the specification says now, not what the status said of an earlier one', () => {
    const status = { filesystemOverhead: { global: '0.06', storageClass: { c: '0.06' } } };
    assert.equal(filesystemOverhead({ spec: { filesystemOverhead: { global: '0.2' } }, status }, 'c'), 0.2);
    const spec = { filesystemOverhead: { global: '0.2', storageClass: { c: '0.3' } } };
    assert.equal(filesystemOverhead({ spec, status }, 'c'), 0.3);
    assert.equal(filesystemOverhead({ status }, 'c'), 0.06);
    assert.equal(filesystemOverhead(undefined, 'c'), 0.06);
  });
});
