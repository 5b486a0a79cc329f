import assert from 'node:assert/strict';
import { choosePool, poolsOf } from '../../activities/kubernetes/pools.js';
import { ApplicationFailure } from '../../activities/failures.js';

const storageClass = (parameters?: Record<string, string>) => ({
  metadata: { name: 'hostpath' },
  provisioner: 'kubevirt.io.hostpath-provisioner',
  ...(parameters ? { parameters } : {}),
});
const pool = (name: string) => ({ name, path: `/var/${name}`, useNamingPrefix: false });

describe('pools of HostPathProvisioners', () => {
  for (const [written, read] of [
    [true, true],
    ['true', true],
    ['True', true],
    [false, false],
    ['false', false],
    [undefined, false],
  ] as const) {
    it(`useNamingPrefix ${JSON.stringify(written)} means ${read}`, () => {
      const pathConfig = {
        path: '/var/hpvolumes/',
        ...(written === undefined ? {} : { useNamingPrefix: written }),
      };
      assert.deepEqual(poolsOf({ spec: { pathConfig } }), [
        { name: 'legacy', path: '/var/hpvolumes', useNamingPrefix: read },
      ]);
    });
  }

  it('takes every named pool, and overcommit only where it promises more', () => {
    const storagePools = [
      { name: 'local', path: '/srv/local', overcommit: 1 },
      { name: 'fast', path: '/srv/fast//', overcommit: 1.5 },
    ];
    assert.deepEqual(poolsOf({ spec: { storagePools } }), [
      { name: 'local', path: '/srv/local', useNamingPrefix: false },
      { name: 'fast', path: '/srv/fast', useNamingPrefix: false, overcommit: 1.5 },
    ]);
    assert.deepEqual(poolsOf({}), []);
  });

  it('chooses the pool that the class names, the one of pathConfig, or the only one', () => {
    const both = [pool('local'), pool('fast')];
    assert.equal(choosePool(storageClass({ storagePool: 'fast' }), both).name, 'fast');
    assert.equal(choosePool(storageClass(), [...both, pool('legacy')]).name, 'legacy');
    assert.equal(choosePool(storageClass(), [pool('local')]).name, 'local');
    assert.equal(
      choosePool(storageClass({ storagePool: 'legacy' }), [{ path: '/p', useNamingPrefix: false }]).path,
      '/p',
    );
  });

  for (const [what, parameters, pools, message] of [
    ['no pool', undefined, [], /no HostPathProvisioner/],
    [
      'several and none named',
      undefined,
      [pool('a'), pool('b')],
      /has no parameter storagePool, and the pools are a, b$/,
    ],
    ['another name', { storagePool: 'c' }, [pool('a')], /parameter storagePool is c, and the pools are a$/],
  ] as const) {
    it(`refuses a class with ${what}: StorageClassNotFound`, () => {
      assert.throws(
        () => choosePool(storageClass(parameters), pools),
        (error) =>
          error instanceof ApplicationFailure &&
          error.type === 'StorageClassNotFound' &&
          message.test(error.message),
      );
    });
  }
});
