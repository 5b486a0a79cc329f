import assert from 'node:assert/strict';
import { stat, writeFile } from 'node:fs/promises';
import { killProcess, restartProcess } from '../../local/index.js';
import { reclaimWorkflowId } from '../../workflows/task-queues.js';
import { itIf } from '../support/breadth.js';
import { useStack } from '../support/stack.js';
import { createPlainClaims, HOSTPATH, type Claim, type PlainClaims } from './plain-claims.js';
import { recordHistory } from './record.js';
import { createWorld, eventually, type World } from './world.js';

describe('volumes of plain claims that are gone', function () {
  this.timeout(240_000);
  const stack = useStack();
  let world: World;
  let claims: PlainClaims;
  let namespace: string;
  let inventory: readonly string[];

  before(async () => {
    world = createWorld(stack);
    claims = createPlainClaims(stack, world, () => namespace);
    namespace = await world.createNamespace('reclaim');
    await claims.ensureClass('plain-immediate');
    await claims.ensureClass('plain-retain', { reclaimPolicy: 'Retain' });
  });
  beforeEach(async () => {
    inventory = await world.inventory();
  });

  const setPolicy = async (volume: string, policy: string): Promise<void> =>
    void (await stack.kubectl([
      'patch',
      'pv',
      volume,
      '--type=merge',
      '-p',
      JSON.stringify({ spec: { persistentVolumeReclaimPolicy: policy } }),
    ]));

  /** A Bound claim with a file in its volume. */
  async function used(name: string, storageClassName = 'plain-immediate') {
    const claim = await claims.create(name, { storageClassName });
    const { metadata, spec } = await claims.awaitBound(claim);
    await claims.awaitEvent(claim, 'ProvisioningSucceeded', /./);
    const file = `${spec!.hostPath!.path}/data`;
    await writeFile(file, name);
    return { claim, volume: metadata!.name!, uid: metadata!.uid!, file };
  }

  const awaitReleased = async (volume: string): Promise<void> =>
    void (await eventually('Released', 30_000, async () =>
      (await claims.volume(volume))?.status?.phase === 'Released' ? true : undefined,
    ));

  it('are kept, data and all, where the class retains, until an administrator deletes them by policy', async () => {
    const { claim, volume, file } = await used('kept', 'plain-retain');
    await claims.remove(claim);
    await awaitReleased(volume);
    await stat(file);
    await setPolicy(volume, 'Delete');
    await claims.awaitNoVolume(volume);
    await assert.rejects(stat(file), { code: 'ENOENT' });
    await world.assertUnchanged(inventory);
  });

  it('that were deleted while Bound keep their data as long as the claim, and go with it: no directory, promise or object stays', async () => {
    const { claim, volume, file } = await used('deleted-first');
    await stack.kubectl(['delete', 'pv', volume, '--wait=false']);
    assert.equal((await claims.volume(volume))?.status?.phase, 'Bound');
    await stat(file);
    await claims.remove(claim);
    await claims.awaitNoVolume(volume);
    await assert.rejects(stat(file), { code: 'ENOENT' });
    await world.assertUnchanged(inventory);
  });

  // what waits for a node is tried on real ones
  itIf(false)(
    'wait for a node that is away, say so, honour a policy that has become Retain, and go when it is back',
    async () => {
      const gone = await used('gone');
      const kept = await used('rescued');
      killProcess(stack.info, 'worker-node', 'SIGKILL');
      await claims.remove(gone.claim);
      await claims.remove(kept.claim);
      const away = new RegExp(
        `is not removed yet: no node worker answers on node ${stack.info.node}; the volume waits for it$`,
      );
      for (const { volume } of [gone, kept])
        await claims.awaitEvent({ name: volume }, 'VolumeFailedDelete', away, 90_000);
      await stat(gone.file);
      assert.equal((await claims.volume(gone.volume))?.status?.phase, 'Released');
      await setPolicy(kept.volume, 'Retain');
      assert.equal(await claims.awaitClosed(reclaimWorkflowId(kept.uid), 90_000), 'COMPLETED');
      await restartProcess(stack.info, 'worker-node');
      await claims.awaitNoVolume(gone.volume, 90_000);
      await assert.rejects(stat(gone.file), { code: 'ENOENT' });
      await stat(kept.file);
      await recordHistory(stack, reclaimWorkflowId(gone.uid), 'reclaimVolume.succeeded.node-away');
      await recordHistory(stack, reclaimWorkflowId(kept.uid), 'reclaimVolume.retained');
      await setPolicy(kept.volume, 'Delete');
      await claims.awaitNoVolume(kept.volume);
      await world.assertUnchanged(inventory);
    },
  );

  it('of a node that is gone for good wait, say how they are released, and end when they are', async () => {
    const claim = await claims.create('orphan', { storageClassName: 'hostpath-provisioner' });
    const name = `pvc-${claim.uid}`;
    const made = await world.core.createPersistentVolume({ body: volumeOn('node-of-yesterday', claim) });
    await claims.awaitBound(claim);
    await claims.remove(claim);
    await claims.awaitEvent(
      { name },
      'VolumeFailedDelete',
      new RegExp(
        `no node has the label kubernetes.io/hostname=node-of-yesterday.*"kubectl delete pv ${name}" releases the volume$`,
      ),
    );
    await stack.kubectl(['delete', 'pv', name]);
    const id = reclaimWorkflowId(made.metadata!.uid!);
    assert.equal(await claims.awaitClosed(id, 60_000), 'COMPLETED');
    assert.deepEqual(await stack.temporal.workflow.getHandle(id).result(), { reclaimed: false });
    await recordHistory(stack, id, 'reclaimVolume.released.node-gone');
    await world.assertUnchanged(inventory);
  });

  /** A volume as dvflow made it on a node that does not exist any more. */
  function volumeOn(hostname: string, claim: Claim) {
    return {
      metadata: {
        name: `pvc-${claim.uid}`,
        annotations: { 'pv.kubernetes.io/provisioned-by': HOSTPATH, hostPathProvisionerIdentity: 'dvflow' },
      },
      spec: {
        accessModes: ['ReadWriteOnce'],
        capacity: { storage: '8Mi' },
        storageClassName: 'hostpath-provisioner',
        persistentVolumeReclaimPolicy: 'Delete',
        hostPath: { path: `${stack.info.pool}/pvc-${claim.uid}`, type: 'Directory' },
        claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', ...claim },
        nodeAffinity: {
          required: {
            nodeSelectorTerms: [
              { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [hostname] }] },
            ],
          },
        },
      },
    };
  }
});
