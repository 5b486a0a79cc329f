import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { totalmem } from 'node:os';
import { killProcess, restartProcess } from '../../local/index.js';
import { createBlanks, MiB, type Blanks } from '../live/blank-scene.js';
import { createWorld, eventually, type DataVolume, type World } from '../live/world.js';
import { useStack } from '../support/stack.js';

/** Disks at once; `DVFLOW_BLANKS=200` for a shorter look. */
const COUNT = Number(process.env.DVFLOW_BLANKS ?? 1000);
/** Time in which all of them are to be there, in ms: half a second each, on two cores with everything on them. */
const LIMIT_MS = 500 * COUNT;
const PLURAL = { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'datavolumes' } as const;

describe(`${COUNT} blank disks at once`, function () {
  this.timeout(2 * LIMIT_MS + 300_000);
  const stack = useStack();
  let world: World;
  let blanks: Blanks;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    blanks = createBlanks(stack, world, () => namespace);
    namespace = await world.createNamespace('many-blanks');
  });

  it('all succeed, each by one run, while another one is made as usual; all of them go again', async () => {
    const inventory = await world.inventory();
    const { made, doneMs, slowest } = await createAll();
    const reads = await readAll();
    assert.deepEqual(
      reads.filter(({ status }) => status?.phase !== 'Succeeded'),
      [],
    );
    const volumes = new Set<string>();
    for (const { metadata } of made.slice(0, 50)) {
      const claim = await world.claim(namespace, metadata.name);
      volumes.add(claim!.spec!.volumeName!);
      assert.equal(statSync(await world.diskOf(namespace, metadata.name)).size, MiB);
    }
    assert.equal(volumes.size, Math.min(50, COUNT));
    const attempts = await retriesOf(made);
    const memory = processes().map(({ name, peakMiB }) => `${name} ${peakMiB} MiB`);
    const removedAt = Date.now();
    await stack.kubectl(['delete', 'dv', '--all', '--wait=false', '-n', namespace]);
    await world.assertUnchanged(inventory, LIMIT_MS + 120_000);
    console.log(
      `      ${COUNT} blank disks: all Succeeded ${(doneMs / 1000).toFixed(1)} s after the first create ` +
        `(${(doneMs / COUNT).toFixed(0)} ms each); slowest answer of the API server ${slowest} ms; ${attempts} activities needed ` +
        `a second attempt; peak memory ${memory.join(', ')}; all gone ${((Date.now() - removedAt) / 1000).toFixed(1)} s after deletion`,
    );
    assert.ok(doneMs <= LIMIT_MS, `${doneMs} ms`);
  });

  it('kill -9 of both workers while twenty are made: all of them are there, each once', async () => {
    const inventory = await world.inventory();
    const names = Array.from({ length: 20 }, (_, index) => `rush-${index}`);
    const made = await Promise.all(names.map((name) => blanks.create(name)));
    await eventually('the first one', 30_000, async () => {
      for (const name of names)
        if ((await world.read(namespace, name))?.status?.phase === 'Succeeded') return true;
      return undefined;
    });
    for (const victim of ['worker-node', 'worker-control'] as const) {
      killProcess(stack.info, victim, 'SIGKILL');
      await restartProcess(stack.info, victim);
    }
    for (const name of names) {
      await world.awaitPhase(namespace, name, 'Succeeded', 300_000);
      assert.equal((await blanks.sizesOf(name)).size, 64 * MiB);
    }
    // the last step of a disk is given five minutes by a worker that dies over it
    for (const one of made) assert.equal(await blanks.awaitClosed(one, 400_000), 'COMPLETED');
    for (const name of names) await world.remove(namespace, name);
    await world.assertUnchanged(inventory, 120_000);
  });

  /** Creates all of them, fifty calls at a time, and asks the API server meanwhile how long it takes to answer. */
  async function createAll(): Promise<{ made: readonly DataVolume[]; doneMs: number; slowest: number }> {
    const startedAt = Date.now();
    const names = Array.from({ length: COUNT }, (_, index) => `many-${String(index).padStart(4, '0')}`);
    const made: DataVolume[] = [];
    // the overhead of 6 % is on top: one MiB of disk
    const storage = { resources: { requests: { storage: '1Mi' } }, storageClassName: 'hostpath-provisioner' };
    const callers = Array.from({ length: 50 }, async () => {
      for (let name = names.pop(); name !== undefined; name = names.pop())
        made.push(await blanks.create(name, { storage }));
    });
    let slowest = 0;
    await Promise.all(callers);
    await eventually('all succeed', LIMIT_MS * 2, async () => {
      const askedAt = Date.now();
      await world.core.readNamespace({ name: namespace });
      slowest = Math.max(slowest, Date.now() - askedAt);
      const all = await readAll();
      const failed = all.find(({ status }) => status?.phase === 'Failed');
      if (failed) assert.fail(`${failed.metadata.name}: ${JSON.stringify(failed.status)}`);
      const done = all.filter(({ status }) => status?.phase === 'Succeeded').length;
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      return done === COUNT ? true : undefined;
    });
    return { made, doneMs: Date.now() - startedAt, slowest };
  }

  async function readAll(): Promise<readonly DataVolume[]> {
    const list: unknown = await world.custom.listNamespacedCustomObject({ ...PLURAL, namespace });
    return (list as { items: DataVolume[] }).items;
  }

  /** Activities of a sample of the runs that did not go through at the first attempt; each DataVolume has one run, which completed. */
  async function retriesOf(made: readonly DataVolume[]): Promise<number> {
    let retries = 0;
    for (const one of made.filter((_, index) => index % Math.ceil(COUNT / 50) === 0)) {
      const handle = stack.temporal.workflow.getHandle(blanks.idOf(one));
      assert.equal(await blanks.awaitClosed(one), 'COMPLETED');
      const { events } = await handle.fetchHistory();
      retries += (events ?? []).filter(
        ({ activityTaskStartedEventAttributes: started }) => (started?.attempt ?? 1) > 1,
      ).length;
    }
    return retries;
  }

  /** Peak of the resident memory of each process of the stack, which must not grow with the number of disks. */
  function processes(): readonly { name: string; peakMiB: number }[] {
    const names = ['worker-control', 'worker-node'] as const;
    return names.map((name) => {
      const status = readFileSync(`/proc/${stack.info.pids[name]}/status`, 'utf8');
      const peakMiB = Math.round(Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) / 1024);
      assert.ok(peakMiB < totalmem() / MiB / 4, `${name} used ${peakMiB} MiB`);
      return { name, peakMiB };
    });
  }
});
