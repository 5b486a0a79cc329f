import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import type { V1PersistentVolume } from '@kubernetes/client-node';
import { makePatterned } from '../image/support/images.js';
import { makeMappedTwice } from '../image/support/mapped-twice.js';
import { useStack } from '../support/stack.js';
import { recordHistory } from './record.js';
import { BLOCK, SAID_MS, useScratchScene } from './scratch-scene.js';
import { assertSameDisk, eventually } from './world.js';

describe('scratch space of imports', function () {
  this.timeout(240_000);
  const stack = useStack();
  const scene = useScratchScene(stack, 'scratch');

  it('serves a VMDK in gz: a claim in dvflow-transfers while it runs, said as CDI does, gone afterwards', async () => {
    const { made, server } = await scene.transferring('vmdk-gz');
    const claim = await scene.scratchOf(made);
    assert.equal(claim?.status?.phase, 'Bound');
    assert.equal(claim.spec?.volumeMode ?? 'Filesystem', 'Filesystem');
    const user = await scene.world.claim(scene.namespace, 'vmdk-gz');
    assert.equal(user?.status?.phase, 'Pending');
    assert.equal(user.metadata?.annotations?.['cdi.kubevirt.io/storage.import.requiresScratch'], 'true');
    assert.equal(claim.spec?.resources?.requests?.['storage'], '68Mi');
    server.setRate(undefined);
    await scene.world.awaitPhase(scene.namespace, 'vmdk-gz', 'Succeeded', 90_000);
    await assertSameDisk(scene.images.raw, 'raw', await scene.world.diskOf(scene.namespace, 'vmdk-gz'));
    await scene.assertOnlyTheDisk('vmdk-gz');
    const events = (await scene.world.events(scene.namespace, 'vmdk-gz')).map(
      ({ reason, message }) => `${reason}: ${message}`,
    );
    assert.ok(events.includes('CreatingScratchSpace: Creating scratch space'), events.join('\n'));
    await recordHistory(stack, scene.idOf(made), 'importDataVolume.succeeded.scratch');
  });

  for (const [form, ranges] of [
    ['vdi', false],
    ['vpc.xz', true],
    ['vhdx.gz', true],
    ['snapshot.gz', true],
    ['snapshot', false],
  ] as const) {
    it(`serves ${form} from a server with${ranges ? '' : 'out'} ranges`, async () => {
      const name = `${form.replace('.', '-')}-${ranges}`;
      const server = await scene.serve(await scene.images.as(form), { ranges });
      await scene.world.createImport(scene.namespace, name, { url: server.url });
      await scene.world.awaitPhase(scene.namespace, name, 'Succeeded', 90_000);
      assert.ok(scene.seen.length > 0, 'there was scratch space');
      const disk = await scene.world.diskOf(scene.namespace, name);
      await assertSameDisk(scene.images.raw, 'raw', disk);
      await scene.assertOnlyTheDisk(name);
    });
  }

  it('serves an image that shows its need on the way only', async () => {
    const image = join(scene.images.directory, 'twice.qcow2');
    const expected = join(scene.images.directory, 'twice.expected');
    makeMappedTwice(makePatterned(join(scene.images.directory, 'twice.raw'), 8), image, expected);
    execFileSync('gzip', ['-1', '-k', image]);
    const server = await scene.serve(`${image}.gz`);
    const made = await scene.world.createImport(scene.namespace, 'on-the-way', { url: server.url });
    await scene.world.awaitPhase(scene.namespace, 'on-the-way', 'Succeeded', 90_000);
    assert.ok(scene.seen.length > 0, 'there was scratch space');
    await assertSameDisk(expected, 'raw', await scene.world.diskOf(scene.namespace, 'on-the-way'));
    await scene.assertOnlyTheDisk('on-the-way');
    await recordHistory(stack, scene.idOf(made), 'importDataVolume.succeeded.scratch-on-the-way');
  });

  it('is a file system for a Block target too, which gets the disk from offset 0', async function () {
    if (process.getuid?.() !== 0) {
      this.test!.title += ' (loop devices need root)';
      this.skip();
    }
    const file = join(scene.images.directory, 'block');
    execFileSync('truncate', ['--size=64M', file]);
    const device = execFileSync('losetup', ['--find', '--show', file], { encoding: 'utf8' }).trim();
    try {
      await stack.kubectl(['apply', '-f', 'deploy/examples/storage-class-local.yaml']);
      await scene.world.core.createPersistentVolume({ body: localBlockVolume(device, stack.info.node) });
      const server = await scene.serve(await scene.images.as('vmdk.gz'));
      await scene.world.createImport(scene.namespace, 'block', { url: server.url }, BLOCK);
      await scene.world.awaitPhase(scene.namespace, 'block', 'Succeeded', 90_000);
      const [claim] = scene.seen;
      assert.equal(claim?.spec?.volumeMode, 'Filesystem');
      assert.equal(claim.spec?.storageClassName, 'hostpath-provisioner');
      await assertSameDisk(scene.images.raw, 'raw', device);
    } finally {
      await scene.world.remove(scene.namespace, 'block');
      await scene.world.core.deletePersistentVolume({ name: 'scratch-block' });
      execFileSync('losetup', ['--detach', device]);
    }
    await scene.world.assertUnchanged(scene.inventory, 60_000);
  });

  it('is not made for what needs none', async () => {
    const server = await scene.serve(await scene.images.as('qcow2.gz'));
    await scene.world.createImport(scene.namespace, 'streamed', { url: server.url });
    await scene.world.awaitPhase(scene.namespace, 'streamed', 'Succeeded', 60_000);
    const annotations = (await scene.world.claim(scene.namespace, 'streamed'))?.metadata?.annotations ?? {};
    assert.ok(!('cdi.kubevirt.io/storage.import.requiresScratch' in annotations));
    assert.deepEqual(scene.seen, []);
  });

  it('goes when the import is aborted: the DataVolume deleted while bytes move', async () => {
    const { made } = await scene.transferring('aborted');
    assert.ok(await scene.scratchOf(made));
    await scene.world.remove(scene.namespace, 'aborted');
    await scene.world.assertUnchanged(scene.inventory, 60_000);
    await eventually('the end of the run', SAID_MS, async () => {
      const { status } = await stack.temporal.workflow.getHandle(scene.idOf(made)).describe();
      return status.name === 'RUNNING' ? undefined : true;
    });
    await recordHistory(stack, scene.idOf(made), 'importDataVolume.cancelled.scratch');
  });

  it('goes by the sweeper when the workflow is terminated', async () => {
    const { made } = await scene.transferring('terminated');
    await stack.temporal.workflow.getHandle(scene.idOf(made)).terminate('by an operator');
    await scene.world.awaitPhase(scene.namespace, 'terminated', 'Failed', 60_000);
    await eventually('a sweep that leaves nothing', 90_000, async () => {
      await stack.temporal.schedule.getHandle('dvflow-sweep').trigger();
      return await scene.world.assertUnchanged(scene.inventory, 2_000).then(
        () => true,
        () => undefined,
      );
    });
  });
});

function localBlockVolume(device: string, node: string): V1PersistentVolume {
  const onNode = { key: 'kubernetes.io/hostname', operator: 'In', values: [node] };
  return {
    metadata: { name: 'scratch-block' },
    spec: {
      capacity: { storage: '64Mi' },
      volumeMode: 'Block',
      accessModes: ['ReadWriteOnce'],
      persistentVolumeReclaimPolicy: 'Retain',
      storageClassName: 'local',
      local: { path: device },
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [onNode] }] } },
    },
  };
}
