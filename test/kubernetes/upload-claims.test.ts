import assert from 'node:assert/strict';
import { ApiException, type V1PersistentVolumeClaim } from '@kubernetes/client-node';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { createUploadClaimActivities } from '../../activities/kubernetes/upload-claims.js';
import type { FillTarget } from '../../activities/types.js';
import { uploadClaimWorkflowId } from '../../workflows/task-queues.js';
import { act, rejects } from './support/fixtures.js';

const REF = { namespace: 'team-a', name: 'vm1', uid: 'u-1' };
const TARGET = { 'cdi.kubevirt.io/storage.upload.target': '' };
const reserved = {
  node: 'n1',
  volume: 'pv-local-1',
  volumeUid: 'pv-uid',
  dataVolume: { namespace: 'team-a', name: 'vm1', uid: 'dv-1' },
} as unknown as FillTarget;
const directory = { node: 'n1', directory: 'pvc-u-1' } as unknown as FillTarget;

/** Activities that see one claim; what is written of it is kept, or refused with this code. */
function setup(claim: V1PersistentVolumeClaim | undefined, refusal?: number) {
  const patches: { metadata?: { annotations?: object } }[] = [];
  const core = {
    readNamespacedPersistentVolumeClaim: async () => {
      if (!claim) throw new ApiException(404, 'not found', {}, {});
      return claim;
    },
    async patchNamespacedPersistentVolumeClaim({ body }: { body: object }) {
      if (refusal !== undefined) throw new ApiException(refusal, '', '{"kind":"Status"}', {});
      patches.push(body);
    },
    listNamespacedPod: async () => ({ items: [] }),
    readPersistentVolume: async () => ({ metadata: { uid: 'pv-uid' }, spec: { claimRef: { uid: REF.uid } } }),
  };
  const kubernetes = { core, storage: {}, custom: {} } as unknown as Kubernetes;
  const executions = { stateOf: async () => 'closed' as const };
  const activities = createUploadClaimActivities({ kubernetes, executions });
  type Activities = typeof activities;
  /** As a run of this workflow. */
  const as = (workflowId: string): Pick<Activities, 'openUploadClaim' | 'recordUploadClaim'> => ({
    openUploadClaim: (input) => act(() => activities.openUploadClaim(input), [], { workflowId }),
    recordUploadClaim: (input) => act(() => activities.recordUploadClaim(input), [], { workflowId }),
  });
  return { patches, as, ...activities, ...as(uploadClaimWorkflowId(REF)) };
}
const claim = (
  annotations: Record<string, string> = TARGET,
  volumeName?: string,
  phase = 'Pending',
): V1PersistentVolumeClaim => ({
  metadata: { ...REF, annotations },
  spec: volumeName === undefined ? {} : { volumeName },
  status: { phase },
});
const typed = (type: string) => (error: { type?: string; nonRetryable?: boolean }) =>
  error.type === type && error.nonRetryable === true;

describe('the target of an upload', () => {
  it('is the volume that is reserved for the claim, the one that it is Bound to, or one that is to be made', async () => {
    for (const [found, target] of [
      [claim(TARGET, 'pv-local-1'), reserved],
      [claim(TARGET, 'pv-local-1', 'Bound'), reserved],
      [claim(), reserved],
      [claim(), directory],
      [claim(TARGET, 'pvc-u-1'), directory],
    ] as const)
      assert.deepEqual(await setup(found).confirmUploadTarget({ claim: REF, directory: target }), {
        asks: true,
      });
  });

  it('is lost with the claim, and where the claim has got another volume', async () => {
    for (const [found, target] of [
      [undefined, directory],
      [claim(TARGET, 'pv-other'), directory],
      [claim(TARGET, 'pv-other', 'Bound'), reserved],
      [claim(TARGET, undefined, 'Lost'), directory],
    ] as const)
      await assert.rejects(
        setup(found).confirmUploadTarget({ claim: REF, directory: target }),
        typed('ClaimLost'),
      );
  });

  const said = {
    'cdi.kubevirt.io/storage.pod.phase': 'Running',
    'cdi.kubevirt.io/storage.pod.ready': 'true',
    'dvflow.io/workflow-id': 'w',
  };

  it('is not asked for any more without its annotation; what was said is taken back, and nothing more is said', async () => {
    const activities = setup(claim(said));
    assert.deepEqual(await activities.confirmUploadTarget({ claim: REF, directory }), { asks: false });
    const event = { type: 'Warning', reason: 'Cancelled', message: 'x' } as const;
    await activities.recordUploadClaim({ claim: REF, podPhase: 'Failed', podReady: false, event });
    assert.deepEqual(activities.patches, [
      {
        metadata: {
          uid: REF.uid,
          annotations: Object.fromEntries(Object.keys(said).map((key) => [key, null])),
        },
      },
    ]);
  });

  it('is told of again where others write at the same time, and no more where it is gone', async () => {
    const told = async (refusal: number): Promise<void> => {
      const activities = setup(claim(), refusal);
      const ready = { claim: REF, podPhase: 'Running', podReady: true } as const;
      await activities.recordUploadClaim(ready);
    };
    await assert.rejects(
      told(409),
      (error: { type?: string; nonRetryable?: boolean; message: string }) =>
        error.type === 'KubernetesUnavailable' &&
        error.nonRetryable === false &&
        /team-a\/vm1 changed meanwhile/.test(error.message),
    );
    await told(404);
  });

  it('may be asked for again before the run has ended that it was taken from: nothing is said of that end', async () => {
    const activities = setup(claim({ ...TARGET, ...said }));
    const event = { type: 'Warning', reason: 'Cancelled', message: 'x' } as const;
    await activities.recordUploadClaim({
      claim: REF,
      podPhase: 'Failed',
      podReady: false,
      event,
      withdrawn: true,
    });
    const taken = Object.fromEntries(Object.keys(said).map((key) => [key, null]));
    assert.deepEqual(activities.patches, [{ metadata: { uid: REF.uid, annotations: taken } }]);
  });

  it('is served by the workflow of its uid alone: another one is refused, and says nothing on the claim', async () => {
    const ready = { ...TARGET, ...said };
    const { as, patches } = setup(claim(ready, 'pvc-u-1', 'Bound'));
    const other = as('start-workflow-like-this-one');
    for (const input of [{ claim: REF }, { claim: REF, retry: '1' }])
      await rejects(
        other.openUploadClaim(input),
        'ResourceExists',
        /claim team-a\/vm1 is served by workflow upload\/team-a\/vm1\/u-1/,
      );
    const event = { type: 'Warning', reason: 'ResourceExists', message: 'x' } as const;
    await other.recordUploadClaim({ claim: REF, podPhase: 'Failed', podReady: false, event });
    await other.recordUploadClaim({ claim: REF, event, withdrawn: true });
    assert.deepEqual(patches, []);
  });

  it('that is complete stays so, whatever a run says that was reset afterwards; the run repeats its own last word', async () => {
    const phase = 'cdi.kubevirt.io/storage.pod.phase';
    const done = { ...TARGET, [phase]: 'Succeeded', 'dvflow.io/retry': '1' };
    const { patches, recordUploadClaim, openUploadClaim } = setup(claim(done, 'pvc-u-1', 'Bound'));
    const event = { type: 'Warning', reason: 'ResourceExists', message: 'x' } as const;
    await recordUploadClaim({ claim: REF, podPhase: 'Failed', podReady: false, event });
    for (const podPhase of ['Pending', 'Running'] as const)
      await rejects(
        recordUploadClaim({ claim: REF, podPhase }),
        'ResourceExists',
        /vm1 has its disk already/,
      );
    const opened = await openUploadClaim({ claim: REF, retry: '1' });
    assert.match(opened.done ?? '', /has its disk/);
    assert.equal(patches.length, 0);
    await recordUploadClaim({ claim: REF, podPhase: 'Succeeded' });
    assert.deepEqual(
      patches.map(({ metadata }) => (metadata?.annotations as Record<string, unknown>)[phase]),
      ['Succeeded'],
    );
  });

  it('keeps no mark of dvflow when it is complete, with which a backup of it could not be restored', async () => {
    const phase = 'cdi.kubevirt.io/storage.pod.phase';
    const marks = { 'dvflow.io/workflow-id': 'w', 'dvflow.io/retry': '1', 'dvflow.io/retried': '1' };
    const { patches, recordUploadClaim } = setup(claim({ ...TARGET, [phase]: 'Running', ...marks }));
    await recordUploadClaim({ claim: REF, podPhase: 'Succeeded' });
    const gone = Object.fromEntries(Object.keys(marks).map((key) => [key, null]));
    assert.deepEqual(patches, [
      { metadata: { uid: REF.uid, annotations: { [phase]: 'Succeeded', ...gone } } },
    ]);
  });

  it('is opened again by a value of dvflow.io/retry, which is noted first and once', async () => {
    const failed = { ...TARGET, 'cdi.kubevirt.io/storage.pod.phase': 'Failed', 'dvflow.io/deadline': 'soon' };
    const first = setup(claim({ ...failed, 'dvflow.io/retry': '1' }));
    const opening = first.openUploadClaim({ claim: REF, retry: '1' });
    await assert.rejects(opening, typed('InvalidDataVolume'));
    assert.deepEqual(first.patches, [
      {
        metadata: {
          uid: REF.uid,
          annotations: { 'dvflow.io/retried': '1', 'cdi.kubevirt.io/storage.pod.phase': 'Pending' },
        },
      },
    ]);
    const again = setup(claim({ ...failed, 'dvflow.io/retry': '1', 'dvflow.io/retried': '1' }));
    await assert.rejects(again.openUploadClaim({ claim: REF, retry: '1' }), typed('InvalidDataVolume'));
    assert.deepEqual(again.patches, []);
  });
});
