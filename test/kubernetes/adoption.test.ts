import assert from 'node:assert/strict';
import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { failureTypeOf } from '../../activities/failures.js';
import { judge } from '../../activities/kubernetes/adoption.js';
import type { CdiConfig, DataVolume } from '../../activities/kubernetes/objects.js';

const dataVolumeWith = (annotations: Record<string, string> = {}): DataVolume => ({
  apiVersion: 'cdi.kubevirt.io/v1beta1',
  kind: 'DataVolume',
  metadata: { namespace: 'team-a', name: 'vm1', uid: 'dv-uid', annotations },
  spec: {},
});
const owned = (kind: string, name: string, uid: string) => ({
  ownerReferences: [{ apiVersion: 'v1', kind, name, uid, controller: true }],
});
const created = (uid: string) => ({ annotations: { 'cdi.kubevirt.io/createdForDataVolume': uid } });
const populated = { annotations: { 'cdi.kubevirt.io/storage.populatedFor': 'vm1' } };
const marked = { labels: { 'dvflow.io/unpublished': 'dv-uid' } };
const deleted = { deletionTimestamp: new Date() };
const ADOPTS = { 'cdi.kubevirt.io/allowClaimAdoption': 'true' };
const gate: CdiConfig = { spec: { featureGates: ['DataVolumeClaimAdoption'] } };
const claimWith = (...metadata: object[]): V1PersistentVolumeClaim => ({
  metadata: Object.assign({ namespace: 'team-a', name: 'vm1', uid: 'claim-uid' }, ...metadata) as object,
});

describe('the verdict on a claim of the same name', () => {
  const bound = { ...claimWith(created('dv-uid'), marked), spec: { volumeName: 'pvc-claim-uid' } };
  const rows: [
    string,
    V1PersistentVolumeClaim,
    Record<string, string>,
    CdiConfig | undefined,
    string,
    (RegExp | undefined)?,
  ][] = [
    ['own, in the making', claimWith(created('dv-uid'), marked), {}, undefined, 'create'],
    ['own, published', claimWith(created('dv-uid')), {}, undefined, 'adopt'],
    ['own, Bound but not unmarked', bound, {}, undefined, 'adopt'],
    [
      'own, although adoption is allowed',
      claimWith(created('dv-uid'), marked),
      { 'cdi.kubevirt.io/allowClaimAdoption': 'true' },
      gate,
      'create',
    ],
    [
      'own, going',
      claimWith(created('dv-uid'), marked, deleted),
      {},
      undefined,
      'wait',
      /vm1 is of an earlier run and is being removed, once/,
    ],
    [
      'of an earlier DataVolume of the name',
      claimWith(created('old'), owned('DataVolume', 'vm1', 'old')),
      {},
      gate,
      'wait',
      /belongs to an earlier DataVolume vm1 and is being removed/,
    ],
    [
      'of another DataVolume',
      claimWith(owned('DataVolume', 'vm2', 'u2')),
      {},
      gate,
      'ResourceExists',
      /is managed by DataVolume vm2/,
    ],
    [
      'of somebody else',
      claimWith(owned('StatefulSet', 'db', 'u3')),
      { 'cdi.kubevirt.io/allowClaimAdoption': 'true' },
      gate,
      'ResourceExists',
      /is managed by StatefulSet db/,
    ],
    ['adopted before', claimWith(owned('DataVolume', 'vm1', 'dv-uid')), {}, undefined, 'adopt'],
    ['populated', claimWith(populated), {}, undefined, 'adopt'],
    [
      'in the making for an earlier DataVolume that let it go, adoption allowed',
      claimWith(
        { annotations: { ...created('old').annotations, 'dvflow.io/workflow-id': 'import/team-a/vm1' } },
        { labels: { 'dvflow.io/unpublished': 'old' } },
      ),
      ADOPTS,
      undefined,
      'wait',
      /vm1 is being filled for another DataVolume by workflow import\/team-a\/vm1$/,
    ],
    [
      'of an earlier DataVolume whose run ended before it could say that the disk is there, adoption allowed',
      {
        ...claimWith(created('old'), { labels: { 'dvflow.io/unpublished': 'old' } }),
        spec: { volumeName: 'pvc-claim-uid' },
      },
      ADOPTS,
      undefined,
      'adopt',
    ],
    [
      'own, in the making, whose annotation somebody took away',
      claimWith(marked, owned('DataVolume', 'vm1', 'dv-uid')),
      {},
      undefined,
      'create',
    ],
    ...(['Running', 'Succeeded'] as const).flatMap((phase): typeof rows => {
      const said = { 'cdi.kubevirt.io/storage.pod.phase': phase };
      const byCdi = { 'cdi.kubevirt.io/storage.import.endpoint': 'http://a/b', ...said };
      const verdict = phase === 'Succeeded' ? 'adopt' : 'ResourceExists';
      const why = phase === 'Succeeded' ? undefined : /has no complete disk: \S+ is Running, not Succeeded/;
      const own = created('dv-uid').annotations;
      const upload = { 'cdi.kubevirt.io/storage.upload.target': '', ...said };
      return [
        [
          `own, by CDI, ${phase}`,
          claimWith({ annotations: { ...own, ...byCdi } }),
          {},
          undefined,
          verdict,
          why,
        ],
        [
          `of its owner, by CDI, ${phase}`,
          claimWith({ annotations: byCdi }, owned('DataVolume', 'vm1', 'dv-uid')),
          { 'cdi.kubevirt.io/storage.prePopulated': 'vm1' },
          undefined,
          verdict,
          why,
        ],
        [
          `plain, by CDI, adoption allowed, ${phase}`,
          claimWith({ annotations: byCdi }),
          ADOPTS,
          undefined,
          verdict,
          why,
        ],
        [
          `plain, uploaded into, adoption allowed, ${phase}`,
          claimWith({ annotations: upload }),
          ADOPTS,
          undefined,
          verdict,
          why,
        ],
        // a run that was killed between its last steps has published it and not said so
        [
          `own, by dvflow, ${phase}`,
          claimWith({ annotations: { ...own, ...upload } }),
          {},
          undefined,
          'adopt',
        ],
      ];
    }),
    [
      'populated, going',
      claimWith(populated, deleted),
      {},
      undefined,
      'wait',
      /^claim team-a\/vm1 is being removed, once no pod uses it any more$/,
    ],
    ['plain, going', claimWith(deleted), {}, undefined, 'wait', /is being removed/],
    [
      'populated for another',
      claimWith({ annotations: { 'cdi.kubevirt.io/storage.populatedFor': 'vm2' } }),
      {},
      undefined,
      'ResourceExists',
    ],
    ['plain', claimWith(), {}, undefined, 'ResourceExists', /is not managed by the DataVolume/],
    [
      'plain, prePopulated alone',
      claimWith(),
      { 'cdi.kubevirt.io/storage.prePopulated': 'vm1' },
      undefined,
      'ResourceExists',
    ],
    [
      'plain, adoption allowed',
      claimWith(),
      { 'cdi.kubevirt.io/allowClaimAdoption': 'true' },
      undefined,
      'adopt',
    ],
    ['plain, gate', claimWith(), {}, gate, 'adopt'],
    [
      'plain, gate but not here',
      claimWith(),
      { 'cdi.kubevirt.io/allowClaimAdoption': 'false' },
      gate,
      'ResourceExists',
    ],
  ];
  for (const [what, claim, annotations, config, expected, message] of rows) {
    it(`${what}: ${expected}`, () => {
      const decide = () => judge(claim, dataVolumeWith(annotations), config);
      if (expected === 'create') assert.deepEqual(decide(), { claim: 'create' });
      else if (expected === 'wait') {
        const { claim: verdict, waiting } = decide();
        assert.equal(verdict, 'wait');
        assert.match(waiting?.message ?? '', message ?? /./);
      } else if (expected === 'adopt') assert.deepEqual(decide(), { claim: 'adopt', adoptUid: 'claim-uid' });
      else
        assert.throws(
          decide,
          (error) => failureTypeOf(error) === expected && (message ?? /./).test(String(error)),
        );
    });
  }
});
