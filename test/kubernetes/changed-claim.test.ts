import type { V1PersistentVolume, V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { ApiException } from '@kubernetes/client-node';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { createVolumeActivities } from '../../activities/kubernetes/volumes.js';
import type { FillTarget } from '../../activities/types.js';
import { act, POOL, rejects, rejectsForNow, TARGET } from './support/fixtures.js';

const CLAIM = { namespace: 'team-a', name: 'vm1', uid: 'claim' };
const DATA_VOLUME = { namespace: 'team-a', name: 'vm1', uid: 'data-volume' };
const PLACE = { node: 'node01', hostname: 'node01', dataVolume: DATA_VOLUME };

const DIRECTORY: FillTarget = { ...PLACE, pool: POOL.path, directory: 'pvc-claim', promisedBytes: 1 };
const RESERVED: FillTarget = {
  ...PLACE,
  volume: 'disk',
  volumeUid: 'disk-uid',
  storageClass: '',
  volumeMode: 'Block',
  path: '/dev/disk',
  capacityBytes: 1,
};

/** An API server whose claim is Bound to this volume, and which refuses to change it; afterwards the claim has this uid. */
function refusing(code: number, volumeName: string, uidAfterwards: string): Kubernetes {
  const claim = {
    metadata: { ...CLAIM },
    spec: { volumeName },
    status: { phase: 'Bound' },
  } satisfies V1PersistentVolumeClaim;
  const volume: V1PersistentVolume = {
    metadata: { name: volumeName, uid: 'disk-uid' },
    spec: { claimRef: CLAIM },
  };
  const core = {
    readNamespacedPersistentVolumeClaim: async () => claim,
    async patchNamespacedPersistentVolumeClaim() {
      claim.metadata.uid = uidAfterwards;
      throw new ApiException(code, '', '{"kind":"Status","message":"refused"}', {});
    },
    createPersistentVolume: async () => volume,
    readPersistentVolume: async () => volume,
    patchPersistentVolume: async () => volume,
  };
  return { core } as unknown as Kubernetes;
}

describe('a claim that cannot be changed when its disk is complete', () => {
  for (const [what, directory, volume] of [
    ['a volume of a pool', DIRECTORY, 'pvc-claim'],
    ['a reserved volume', RESERVED, 'disk'],
  ] as const) {
    const publish = async (kubernetes: Kubernetes) => {
      const { publishVolume } = createVolumeActivities({ kubernetes });
      return await act(publishVolume, [{ dataVolume: DATA_VOLUME, claim: CLAIM, target: TARGET, directory }]);
    };

    it(`is changed again where others write at the same time: ${what}`, async () => {
      const busy = refusing(409, volume, CLAIM.uid);
      await rejectsForNow(publish(busy), 'KubernetesUnavailable', /claim team-a\/vm1 changed meanwhile/);
    });

    it(`is lost where it was replaced, or is gone: ${what}`, async () => {
      await rejects(publish(refusing(409, volume, 'another')), 'ClaimLost');
      await rejects(publish(refusing(404, volume, CLAIM.uid)), 'ClaimLost');
    });
  }
});
