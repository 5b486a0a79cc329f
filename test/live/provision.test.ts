import assert from 'node:assert/strict';
import { lstat, stat } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { killProcess, restartProcess } from '../../local/index.js';
import { provisionWorkflowId } from '../../workflows/task-queues.js';
import { useStack } from '../support/stack.js';
import {
  createPlainClaims,
  HOSTPATH,
  HOSTPATH_CSI,
  SELECTED_NODE,
  type Claim,
  type PlainClaims,
} from './plain-claims.js';
import { recordHistory } from './record.js';
import { createWorld, eventually, type World } from './world.js';

/** More than any pool of a test has. */
const TOO_LARGE = '4Pi';

describe('plain claims of a hostpath class', function () {
  this.timeout(120_000);
  const stack = useStack();
  let world: World;
  let claims: PlainClaims;
  let namespace: string;
  let inventory: readonly string[];

  before(async () => {
    world = createWorld(stack);
    claims = createPlainClaims(stack, world, () => namespace);
    namespace = await world.createNamespace('plain');
    await claims.ensureClass('plain-immediate');
    await claims.ensureClass('plain-csi', {
      provisioner: HOSTPATH_CSI,
      volumeBindingMode: 'WaitForFirstConsumer',
    });
  });
  beforeEach(async () => {
    inventory = await world.inventory();
  });

  const runOf = (claim: Claim) => stack.temporal.workflow.getHandle(provisionWorkflowId(claim));

  const annotationOf = async ({ name }: Claim, annotation: string) =>
    (await world.claim(namespace, name))?.metadata?.annotations?.[annotation];

  /** Removes claims, and asserts that nothing of them is left. */
  async function removeAll(...made: readonly Claim[]): Promise<void> {
    for (const claim of made) await claims.remove(claim);
    await world.assertUnchanged(inventory);
  }

  it('get an empty volume at once where the class binds immediately, told in the words of an external provisioner', async () => {
    const claim = await claims.create('immediate');
    const { metadata, spec } = await claims.awaitBound(claim);
    assert.equal(metadata?.name, `pvc-${claim.uid}`);
    assert.equal(metadata.annotations?.['pv.kubernetes.io/provisioned-by'], HOSTPATH);
    assert.equal(spec?.capacity?.storage, '8Mi');
    assert.equal(spec.persistentVolumeReclaimPolicy, 'Delete');
    assert.equal(spec.hostPath?.path, `${stack.info.pool}/pvc-${claim.uid}`);
    const [term] = spec.nodeAffinity?.required?.nodeSelectorTerms ?? [];
    const [on, ...others] = term?.matchExpressions ?? [];
    assert.deepEqual(
      [on?.key, on?.operator, on?.values],
      ['kubernetes.io/hostname', 'In', [stack.info.node]],
    );
    assert.deepEqual(others, []);
    assert.equal((await stat(spec.hostPath.path)).mode & 0o7777, 0o771);
    const started = `External provisioner is provisioning volume for claim "${namespace}/immediate"`;
    await claims.awaitEvent(claim, 'Provisioning', new RegExp(`^${started}$`));
    const done = new RegExp(`^Successfully provisioned volume pvc-${claim.uid}$`);
    await claims.awaitEvent(claim, 'ProvisioningSucceeded', done);
    assert.equal(await claims.awaitClosed(provisionWorkflowId(claim)), 'COMPLETED');
    const published = await claims.volume(`pvc-${claim.uid}`);
    assert.equal(published?.metadata?.labels?.['dvflow.io/unpublished'], undefined);
    await assert.rejects(lstat(`${stack.info.pool}/.dvflow/${claim.uid}`), { code: 'ENOENT' });
    await recordHistory(stack, provisionWorkflowId(claim), 'provisionVolume.succeeded');
    await removeAll(claim);
  });

  it('wait for the scheduler where the class does, and go to the node that selected-node names', async () => {
    const claim = await claims.create('selected', { storageClassName: 'hostpath-provisioner' });
    await claims.awaitEvent(claim, 'WaitForFirstConsumer', /first consumer/);
    await assert.rejects(runOf(claim).describe());
    await stack.kubectl([
      'annotate',
      'pvc',
      '-n',
      namespace,
      claim.name,
      `${SELECTED_NODE}=${stack.info.node}`,
    ]);
    await claims.awaitBound(claim);
    await removeAll(claim);
  });

  it('go where the real scheduler puts the pod that uses them, and the pod is placed there', async () => {
    const claim = await claims.create('consumed', { storageClassName: 'hostpath-provisioner' });
    await claims.createPod('consumer', claim.name);
    await claims.awaitBound(claim);
    await eventually('the pod is placed', 30_000, async () => {
      const { spec } = await world.core.readNamespacedPod({ namespace, name: 'consumer' });
      return spec?.nodeName === stack.info.node ? true : undefined;
    });
    await claims.removePod('consumer');
    await removeAll(claim);
  });

  it('go to the node that provisionOnNode names, without a pod, and wait for one that does not exist', async () => {
    const named = (node: string) => ({
      storageClassName: 'hostpath-provisioner',
      annotations: { 'kubevirt.io/provisionOnNode': node },
    });
    const here = await claims.create('here', named(stack.info.node));
    const nowhere = await claims.create('nowhere', named('node-of-nobody'));
    await claims.awaitBound(here);
    await claims.awaitEvent(
      nowhere,
      'ProvisioningFailed',
      /^failed to provision volume: node node-of-nobody does not exist$/,
    );
    assert.equal((await world.claim(namespace, 'nowhere'))?.status?.phase, 'Pending');
    await removeAll(here, nowhere);
    assert.equal(await claims.awaitClosed(provisionWorkflowId(nowhere)), 'COMPLETED');
    await recordHistory(stack, provisionWorkflowId(nowhere), 'provisionVolume.abandoned.no-node');
  });

  it("without room on the scheduler's node give the choice back to it, with both figures", async () => {
    const claim = await claims.create('crowded', {
      storageClassName: 'hostpath-provisioner',
      storage: TOO_LARGE,
    });
    await claims.createPod('crowded', claim.name);
    await claims.awaitEvent(
      claim,
      'InsufficientCapacity',
      new RegExp(`^node ${stack.info.node} has room for \\d+ bytes, the claim requests 4503599627370496$`),
    );
    await claims.removePod('crowded');
    await eventually('selected-node is gone', 20_000, async () =>
      (await annotationOf(claim, SELECTED_NODE)) === undefined ? true : undefined,
    );
    assert.equal((await world.claim(namespace, claim.name))?.status?.phase, 'Pending');
    await removeAll(claim);
    assert.equal(await claims.awaitClosed(provisionWorkflowId(claim)), 'COMPLETED');
    await recordHistory(stack, provisionWorkflowId(claim), 'provisionVolume.abandoned.no-room-on-node');
  });

  it('are not even chosen a node without room by the scheduler where it reads the published room', async () => {
    const fits = await claims.create('fits', { storageClassName: 'plain-csi' });
    await claims.createPod('fits', fits.name);
    await claims.awaitBound(fits, 60_000);
    const large = await claims.create('large', { storageClassName: 'plain-csi', storage: TOO_LARGE });
    await claims.createPod('large', large.name);
    await claims.awaitEvent(
      { namespace, name: 'large' },
      'FailedScheduling',
      /did not have enough free storage/,
    );
    assert.equal(await annotationOf(large, SELECTED_NODE), undefined);
    await assert.rejects(runOf(large).describe());
    await claims.removePod('fits');
    await claims.removePod('large');
    await removeAll(fits, large);
    assert.equal(await claims.awaitClosed('dvflow-capacity'), 'COMPLETED');
    await recordHistory(stack, 'dvflow-capacity', 'publishCapacity.succeeded');
  });

  it('without room anywhere wait and say both figures, and leave nothing when they are deleted', async () => {
    const claim = await claims.create('huge', { storage: TOO_LARGE });
    const asks = `claim ${namespace}/huge asks for 4503599627370496 bytes, pool ${stack.info.pool} has room for \\d+ on node`;
    await claims.awaitEvent(claim, 'InsufficientCapacity', new RegExp(`^${asks}`));
    await claims.awaitEvent(claim, 'ProvisioningFailed', new RegExp(`^failed to provision volume: ${asks}`));
    await removeAll(claim);
    assert.equal(await claims.awaitClosed(provisionWorkflowId(claim)), 'COMPLETED');
    assert.deepEqual(await runOf(claim).result(), {
      provisioned: false,
      reason: `claim ${namespace}/huge (${claim.uid}) was deleted or lost its volume`,
    });
    await recordHistory(stack, provisionWorkflowId(claim), 'provisionVolume.abandoned.no-room');
  });

  it('of volumeMode Block are refused once, in the words of hostpath-provisioner, also by a control role that starts anew', async () => {
    const claim = await claims.create('block', { spec: { volumeMode: 'Block' } });
    const refused = /^kubevirt.io\/hostpath-provisioner does not support block volume provisioning$/;
    await claims.awaitEvent(claim, 'ProvisioningFailed', refused);
    assert.equal(await claims.awaitClosed(provisionWorkflowId(claim)), 'COMPLETED');
    await recordHistory(stack, provisionWorkflowId(claim), 'provisionVolume.refused');
    const { runId } = await runOf(claim).describe();
    killProcess(stack.info, 'worker-control', 'SIGKILL');
    await restartProcess(stack.info, 'worker-control');
    // a claim that is served after it shows that the new one has looked at them all
    const other = await claims.create('after');
    await claims.awaitBound(other, 60_000);
    assert.equal((await runOf(claim).describe()).runId, runId);
    const { items } = await world.core.listNamespacedEvent({
      namespace,
      fieldSelector: `involvedObject.name=block,reason=ProvisioningFailed`,
    });
    assert.deepEqual(
      items.map(({ count }) => count),
      [1],
    );
    await removeAll(claim, other);
  });

  it('of a class whose pool does not exist wait for it and say its name', async () => {
    await claims.ensureClass('plain-nowhere', { parameters: { storagePool: 'nowhere' } });
    const claim = await claims.create('poolless', { storageClassName: 'plain-nowhere' });
    await claims.awaitEvent(
      claim,
      'ProvisioningFailed',
      /parameter storagePool is nowhere, and the pools are legacy/,
    );
    await removeAll(claim);
    assert.equal(await claims.awaitClosed(provisionWorkflowId(claim)), 'COMPLETED');
    await recordHistory(stack, provisionWorkflowId(claim), 'provisionVolume.abandoned.no-pool');
  });

  it('that wait for data are not touched', async () => {
    const waiting = await claims.create('waiting', {
      annotations: { 'cdi.kubevirt.io/storage.upload.target': '' },
    });
    const plain = await claims.create('beside');
    await claims.awaitBound(plain);
    await pause(500);
    await assert.rejects(runOf(waiting).describe());
    assert.equal((await world.claim(namespace, 'waiting'))?.spec?.volumeName, undefined);
    await removeAll(waiting, plain);
  });
});
