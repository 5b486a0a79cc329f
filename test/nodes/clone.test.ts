import assert from 'node:assert/strict';
import { cancel } from '../../client/index.js';
import { killProcess, machinePath, restartProcess, type ProcessName } from '../../local/index.js';
import { createClones, type Clones } from '../live/clone-scene.js';
import { createWorld, eventually, sha256, type DataVolume, type World } from '../live/world.js';
import { chosen } from '../support/breadth.js';
import { useStack } from '../support/stack.js';

const HERE = 'node02';
const THERE = 'node01';
const ON = (node: string) => ({ 'kubevirt.io/provisionOnNode': node });
const LARGE_MIB = 1024;

describe('a clone from one real node to another', function () {
  this.timeout(240_000);
  const stack = useStack({ nodes: 2 });
  let world: World;
  let clones: Clones;
  let namespace: string;
  let content: string;
  let inventory: readonly string[];

  before(async () => {
    world = createWorld(stack);
    namespace = await world.createNamespace('clone-nodes');
    clones = createClones(stack, world, namespace);
    content = await sha256(await clones.makeSource('large', LARGE_MIB, ON(HERE)));
  });
  after(async () => {
    await world?.remove(namespace, 'large');
  });
  beforeEach(async () => {
    inventory = await world.inventory();
  });

  const copying = async (name: string, from = 'large'): Promise<DataVolume> => {
    const made = await clones.clone(name, from, { annotations: ON(THERE) });
    await clones.copying(made, THERE);
    return made;
  };

  it('stays on the node of its source where nobody chooses another one', async () => {
    await clones.makeSource('small', 8, ON(HERE));
    await clones.clone('beside', 'small');
    await world.awaitPhase(namespace, 'beside', 'Succeeded');
    const disk = await world.diskOf(namespace, 'beside');
    assert.ok(disk.startsWith(machinePath(stack.info, HERE, stack.info.pool)), disk);
    for (const name of ['beside', 'small']) await world.remove(namespace, name);
    await world.assertUnchanged(inventory, 60_000);
  });

  const victims: readonly ProcessName[] = [`worker-${HERE}`, `worker-${THERE}`, 'worker-control'];
  for (const victim of chosen(victims, (one) => one !== 'worker-control')) {
    it(`goes on after kill -9 of ${victim}, and the disk is right`, async () => {
      const name = `killed-${victim}`;
      await copying(name);
      killProcess(stack.info, victim, 'SIGKILL');
      await restartProcess(stack.info, victim);
      await world.awaitPhase(namespace, name, 'Succeeded', 180_000);
      const disk = await world.diskOf(namespace, name);
      assert.ok(disk.startsWith(machinePath(stack.info, THERE, stack.info.pool)), disk);
      assert.equal(await sha256(disk), content);
      await world.remove(namespace, name);
      await world.assertUnchanged(inventory, 60_000);
    });
  }

  it('leaves nothing when it is cancelled, and the volume is served no more', async () => {
    const made = await copying('cancelled');
    await cancel(stack.temporal, { workflowId: clones.idOf(made) });
    await world.awaitPhase(namespace, 'cancelled', 'Failed');
    await world.assertUnchanged(inventory, 60_000);
    const run = stack.temporal.workflow.getHandle(clones.idOf(made));
    await eventually('the run is over', 30_000, async () =>
      (await run.describe()).status.name === 'CANCELLED' ? true : undefined,
    );
  });

  it('fails by name when the source is deleted while it is read', async () => {
    await clones.makeSource('short-lived', LARGE_MIB, ON(HERE));
    await copying('orphan', 'short-lived');
    await world.remove(namespace, 'short-lived');
    const ended = await world.awaitPhase(namespace, 'orphan', 'Failed', 120_000);
    const running = ended.status?.conditions?.find(({ type }) => type === 'Running');
    assert.equal(running?.reason, 'SourceNotFound', running?.message);
    await world.assertUnchanged(inventory, 60_000);
  });
});
