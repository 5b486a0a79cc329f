import assert from 'node:assert/strict';
import type { V1Pod } from '@kubernetes/client-node';
import { ApplicationFailure } from '@temporalio/common';
import { judgeClone, type CloneRequest } from '../../activities/kubernetes/clone/rules.js';
import { writesTo } from '../../activities/kubernetes/clone/users.js';
import { TARGET } from './support/fixtures.js';

const GiB = 2 ** 30;

/** A clone of a 1 GiB disk into a claim of the same size. */
function request(
  more: Partial<CloneRequest> = {},
  source: Partial<CloneRequest['origin']> = {},
): CloneRequest {
  return {
    claim: 'team-a/copy',
    contentType: 'kubevirt',
    target: TARGET,
    content: { bytes: GiB, allocatedBytes: 4096 },
    permissive: false,
    ...more,
    origin: {
      claim: { namespace: 'team-b', name: 'golden', uid: 'u1' },
      volume: { node: 'n', volume: 'pv', volumeUid: 'u2', volumeMode: 'Filesystem', path: '/x' },
      contentType: 'kubevirt',
      requestBytes: TARGET.requestBytes,
      capacityBytes: TARGET.requestBytes,
      ...source,
    },
  };
}

const block = { node: 'n', volume: 'pv', volumeUid: 'u2', volumeMode: 'Block', path: '/dev/x' } as const;

describe('the rules of a clone', () => {
  const allowed: Record<string, CloneRequest> = {
    'the same size': request(),
    'a larger claim': request({ target: { ...TARGET, requestBytes: 4 * GiB, usableBytes: 3 * GiB } }),
    'from a file to a device': request({
      target: { ...TARGET, volumeMode: 'Block', usableBytes: GiB, overhead: 0 },
    }),
    'from a device to a file': request({}, { volume: block }),
    'a smaller claim that the user allows, where the disk fits': request({
      permissive: true,
      content: { bytes: 1000, allocatedBytes: 0 },
      target: { ...TARGET, requestBytes: 2000, usableBytes: 1000 },
    }),
    'a claim of spec.storage that is smaller by its class alone, where the disk fits': request({
      target: { ...TARGET, requestBytes: GiB, usableBytes: GiB, overhead: 0, volumeMode: 'Block' },
    }),
    'an archive into a file system, by what its files occupy': request(
      { contentType: 'archive', content: { bytes: 100 * GiB, allocatedBytes: 8192 } },
      { contentType: 'archive' },
    ),
  };
  for (const [what, given] of Object.entries(allowed))
    it(`allows ${what}`, () => assert.doesNotThrow(() => judgeClone(given)));

  const refused: Record<string, readonly [CloneRequest, type: string, message: RegExp]> = {
    'a smaller claim, as CDI does': [
      request({ target: { ...TARGET, api: 'pvc', requestBytes: TARGET.requestBytes - 1 } }),
      'LargerPVCRequired',
      /^target resources requests storage size is smaller than the source: claim team-a\/copy asks for 1138166333 bytes, claim team-b\/golden for 1138166334/,
    ],
    'a disk that does not fit after the overhead': [
      request({ content: { bytes: GiB + 1, allocatedBytes: 0 } }),
      'LargerPVCRequired',
      /^the disk of claim team-b\/golden needs 1073741825 bytes, claim team-a\/copy offers 1073741824 after 6% file system overhead: ask for at least \d+$/,
    ],
    'files that do not fit': [
      request(
        { contentType: 'archive', content: { bytes: 0, allocatedBytes: 2 * GiB } },
        { contentType: 'archive' },
      ),
      'LargerPVCRequired',
      /^the files of claim team-b\/golden need 2147483648 bytes/,
    ],
    'another content type': [
      request({ contentType: 'archive' }),
      'ContentTypeNotSupported',
      /^Source contentType \(kubevirt\) and target contentType \(archive\) do not match$/,
    ],
    'an archive onto a device': [
      request(
        { contentType: 'archive', target: { ...TARGET, volumeMode: 'Block' } },
        { contentType: 'archive' },
      ),
      'IncompatibleVolumeModes',
      /^source volumeMode \(Filesystem\) and target volumeMode \(Block\) do not match, contentType \(archive\)$/,
    ],
  };
  for (const [what, [given, type, message]] of Object.entries(refused))
    it(`refuses ${what}`, () => {
      assert.throws(
        () => judgeClone(given),
        (error) => {
          assert.ok(error instanceof ApplicationFailure);
          assert.deepEqual([error.type, error.nonRetryable], [type, true]);
          assert.match(error.message, message);
          return true;
        },
      );
    });
});

describe('a pod that uses a claim', () => {
  const pod = (
    more: object = {},
    { phase = 'Running', readOnly = false, mountReadOnly = false } = {},
  ): V1Pod => ({
    metadata: { name: 'vm' },
    status: { phase },
    spec: {
      containers: [
        { name: 'main', volumeMounts: [{ name: 'disk', mountPath: '/d', readOnly: mountReadOnly }] },
      ],
      volumes: [{ name: 'disk', persistentVolumeClaim: { claimName: 'golden', readOnly } }],
      ...more,
    },
  });
  const device = { containers: [{ name: 'main', volumeDevices: [{ name: 'disk', devicePath: '/d' }] }] };
  const rows: readonly [what: string, V1Pod, writes: boolean][] = [
    ['mounts it', pod(), true],
    ['waits for a node', pod({}, { phase: 'Pending' }), true],
    ['has ended', pod({}, { phase: 'Succeeded' }), false],
    ['has failed', pod({}, { phase: 'Failed' }), false],
    ['has it read-only', pod({}, { readOnly: true }), false],
    ['mounts it read-only everywhere', pod({}, { mountReadOnly: true }), false],
    ['has it as a device', pod(device, { mountReadOnly: true }), true],
    ['mounts it nowhere yet', pod({ containers: [{ name: 'main' }] }), true],
    [
      'writes to it before it starts',
      pod(
        { initContainers: [{ name: 'init', volumeMounts: [{ name: 'disk', mountPath: '/d' }] }] },
        { mountReadOnly: true },
      ),
      true,
    ],
    [
      'uses another one',
      pod({ volumes: [{ name: 'disk', persistentVolumeClaim: { claimName: 'other' } }] }),
      false,
    ],
  ];
  for (const [what, given, writes] of rows)
    it(`that ${what} ${writes ? 'may write' : 'does not write'} to it`, () =>
      assert.equal(writesTo(given, 'golden'), writes));

  it('has generic ephemeral volumes by its own name', () => {
    const ephemeral = pod({ volumes: [{ name: 'disk', ephemeral: {} }] });
    assert.deepEqual([writesTo(ephemeral, 'vm-disk'), writesTo(ephemeral, 'golden')], [true, false]);
  });
});
