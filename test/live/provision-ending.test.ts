import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { killProcess, restartProcess } from '../../local/index.js';
import { provisionWorkflowId } from '../../workflows/task-queues.js';
import { useStack } from '../support/stack.js';
import { createPlainClaims, type Claim, type PlainClaims } from './plain-claims.js';
import { recordHistory } from './record.js';
import { createWorld, eventually, type World } from './world.js';

describe('plain claims that end while their volume is published', function () {
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
  });
  // Without the controller manager nothing is Bound, so a run is held there; nor does anything that is deleted go.
  beforeEach(async () => {
    inventory = await world.inventory();
    killProcess(stack.info, 'kube-controller-manager', 'SIGKILL');
  });

  async function held(name: string): Promise<Claim> {
    const claim = await claims.create(name, {
      storageClassName: 'hostpath-provisioner',
      annotations: { 'kubevirt.io/provisionOnNode': stack.info.node },
    });
    await eventually('the volume', 60_000, async () => await claims.volume(`pvc-${claim.uid}`));
    await stat(`${stack.info.pool}/pvc-${claim.uid}`);
    return claim;
  }

  const restart = async (): Promise<void> => await restartProcess(stack.info, 'kube-controller-manager');
  const runOf = (claim: Claim) => stack.temporal.workflow.getHandle(provisionWorkflowId(claim));
  const directoryOf = ({ uid }: Claim): string => `${stack.info.pool}/pvc-${uid}`;

  it('by deletion leave nothing', async () => {
    const claim = await held('deleted');
    await claims.remove(claim);
    assert.equal(await claims.awaitClosed(provisionWorkflowId(claim)), 'COMPLETED');
    await assert.rejects(stat(directoryOf(claim)), { code: 'ENOENT' });
    await restart();
    await world.assertUnchanged(inventory);
    await recordHistory(stack, provisionWorkflowId(claim), 'provisionVolume.abandoned.deleted');
  });

  it('by cancellation leave nothing but the claim', async () => {
    const claim = await held('cancelled');
    await runOf(claim).cancel();
    assert.equal(await claims.awaitClosed(provisionWorkflowId(claim)), 'CANCELLED');
    await assert.rejects(stat(directoryOf(claim)), { code: 'ENOENT' });
    await recordHistory(stack, provisionWorkflowId(claim), 'provisionVolume.cancelled');
    await claims.remove(claim);
    await restart();
    await world.assertUnchanged(inventory);
  });

  it('by termination leave what the sweeper and the reclaimer remove', async () => {
    const claim = await held('terminated');
    await runOf(claim).terminate('by hand');
    await claims.remove(claim);
    await restart();
    await eventually('what is left is removed', 60_000, async () => {
      await stack.temporal.workflow.execute('sweep', {
        taskQueue: 'dvflow',
        workflowId: `sweep-${Date.now()}`,
        args: [{}],
      });
      // what other suites left may go with it
      return (await world.inventory()).every((entry) => inventory.includes(entry)) ? true : undefined;
    });
  });

  it('by the death of the node worker go on when it is back', async () => {
    const claim = await held('survivor');
    killProcess(stack.info, 'worker-node', 'SIGKILL');
    await restart();
    await claims.awaitBound(claim, 60_000);
    await restartProcess(stack.info, 'worker-node');
    assert.equal(await claims.awaitClosed(provisionWorkflowId(claim), 60_000), 'COMPLETED');
    await stat(directoryOf(claim));
    await claims.remove(claim);
    await world.assertUnchanged(inventory);
  });
});
