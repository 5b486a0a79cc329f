import assert from 'node:assert/strict';
import { statfs } from 'node:fs/promises';
import { killProcess, restartProcess } from '../../local/index.js';
import { awaitQuota } from '../support/quota.js';
import { useStack } from '../support/stack.js';
import { BLOCK, conditionOf, TRANSFERS, useScratchScene } from './scratch-scene.js';

const MiB = 1 << 20;

describe('what keeps an import from its scratch space', function () {
  this.timeout(240_000);
  const stack = useStack();
  const scene = useScratchScene(stack, 'no-scratch');

  it('waits for a quota on dvflow-transfers, says so within 30 s, and goes on when there is room', async () => {
    const body = { metadata: { name: 'tight' }, spec: { hard: { persistentvolumeclaims: '0' } } };
    await scene.world.core.createNamespacedResourceQuota({ namespace: TRANSFERS, body });
    const server = await scene.serve(await scene.images.as('vmdk.gz'));
    try {
      await awaitQuota(scene.world, TRANSFERS, { refuses: true });
      await scene.world.createImport(scene.namespace, 'quota', { url: server.url });
      await scene.said('quota', 'ErrExceededQuota', /exceeded quota: tight/);
    } finally {
      await scene.world.core.deleteNamespacedResourceQuota({ namespace: TRANSFERS, name: 'tight' });
    }
    await scene.world.awaitPhase(scene.namespace, 'quota', 'Succeeded', 90_000);
    await scene.assertOnlyTheDisk('quota');
  });

  it('is refused before anything is allocated where only a pod could mount it, and made after an edit of CDIConfig', async () => {
    const server = await scene.serve(await scene.images.as('vmdk.gz'));
    await scene.configure('ceph');
    await scene.world.createImport(scene.namespace, 'pods-only', { url: server.url });
    const failed = await scene.world.awaitPhase(scene.namespace, 'pods-only', 'Failed', 20_000);
    assert.equal(conditionOf(failed, 'Running')?.reason, 'ScratchSpaceRequired');
    assert.match(
      conditionOf(failed, 'Running')?.message ?? '',
      /StorageClass "ceph".*rbd\.csi\.ceph\.com.*spec\.scratchSpaceStorageClass of CDIConfig config/,
    );
    assert.equal(await scene.world.claim(scene.namespace, 'pods-only'), undefined);
    await scene.world.assertUnchanged(scene.inventory);
    await scene.configure('scratch');
    await scene.world.createImport(scene.namespace, 'edited', { url: server.url });
    await scene.world.awaitPhase(scene.namespace, 'edited', 'Succeeded', 90_000);
    assert.equal(scene.seen.at(-1)?.spec?.storageClassName, 'scratch');
    // a class that does not exist does not match: the next rule
    scene.seen = [];
    await scene.configure('no-such-class');
    await scene.world.createImport(scene.namespace, 'unmatched', { url: server.url });
    await scene.world.awaitPhase(scene.namespace, 'unmatched', 'Succeeded', 90_000);
    assert.equal(scene.seen.at(-1)?.spec?.storageClassName, 'hostpath-provisioner');
    await scene.configure(null);
  });

  it('is refused for a Block target before anything is allocated where no class for files is set', async () => {
    const server = await scene.serve(await scene.images.as('vmdk.gz'));
    const isDefault = async (value: string) =>
      await stack.kubectl([
        'annotate',
        'storageclass',
        'hostpath-provisioner',
        '--overwrite',
        `storageclass.kubernetes.io/is-default-class=${value}`,
      ]);
    await stack.kubectl(['apply', '-f', 'deploy/examples/storage-class-local.yaml']);
    await isDefault('false');
    try {
      await scene.world.createImport(scene.namespace, 'block', { url: server.url }, BLOCK);
      const failed = await scene.world.awaitPhase(scene.namespace, 'block', 'Failed', 20_000);
      assert.equal(conditionOf(failed, 'Running')?.reason, 'ScratchSpaceRequired');
      assert.match(
        conditionOf(failed, 'Running')?.message ?? '',
        /StorageClass "local" \(the target's StorageClass\).*the target is a Block volume, scratch space is a file system/,
      );
      await scene.world.assertUnchanged(scene.inventory);
    } finally {
      await isDefault('true');
    }
  });

  it('whose claim is not Bound is said within 30 s, and the deadline counts', async () => {
    const server = await scene.serve(await scene.images.as('vmdk.gz'));
    // it is the one that binds
    killProcess(stack.info, 'kube-controller-manager', 'SIGKILL');
    try {
      await scene.world.createImport(
        scene.namespace,
        'unbound',
        { url: server.url },
        {},
        { 'dvflow.io/deadline': '15s' },
      );
      await scene.said(
        'unbound',
        'CreatingScratchSpace',
        /^scratch claim dvflow-transfers\/prime-.* is Pending, not Bound$/,
      );
      const failed = await scene.world.awaitPhase(scene.namespace, 'unbound', 'Failed', 90_000);
      assert.equal(conditionOf(failed, 'Running')?.reason, 'DeadlineExceeded');
      assert.match(conditionOf(failed, 'Running')?.message ?? '', /scratch claim .* is Pending, not Bound/);
    } finally {
      await restartProcess(stack.info, 'kube-controller-manager');
    }
    await scene.world.assertUnchanged(scene.inventory, 60_000);
  });

  it('that finds no room is said within 30 s with both figures, and the deadline counts', async () => {
    const server = await scene.serve(await scene.images.as('vmdk.gz'));
    const { bavail, bsize } = await statfs(stack.info.pool);
    // the target has room, but not its scratch space beside it
    const bytes = Math.floor((bavail * bsize * 0.6) / MiB) * MiB;
    const spec = {
      storage: {
        resources: { requests: { storage: `${bytes}` } },
        storageClassName: 'hostpath-provisioner',
      },
    };
    await scene.world.createImport(scene.namespace, 'no-room', { url: server.url }, spec, {
      'dvflow.io/deadline': '15s',
    });
    await scene.said(
      'no-room',
      'InsufficientCapacity',
      /asks for \d+ bytes and \d+ of scratch space, pool .* has room for \d+/,
    );
    const failed = await scene.world.awaitPhase(scene.namespace, 'no-room', 'Failed', 60_000);
    assert.equal(conditionOf(failed, 'Running')?.reason, 'DeadlineExceeded');
    await scene.world.assertUnchanged(scene.inventory);
  });
});
