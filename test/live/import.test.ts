import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { chosen } from '../support/breadth.js';
import { useStack } from '../support/stack.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { makeImages, type Images } from './images.js';
import { recordHistory } from './record.js';
import { assertSameDisk, createWorld, eventually, type World } from './world.js';

describe('an import, end to end', function () {
  this.timeout(180_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let namespace: string;
  const servers: FileServer[] = [];

  async function serve(path: string, options: object = {}): Promise<FileServer> {
    const server = await startFileServer({ path, ...options });
    servers.push(server);
    return server;
  }

  before(async () => {
    world = createWorld(stack);
    images = await makeImages();
    namespace = await world.createNamespace('import');
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.close()));
    await images.remove();
  });

  const forms = ['raw', 'qcow2', 'qcow2c', 'raw.gz', 'raw.xz', 'qcow2.gz', 'qcow2.xz', 'qcow2c.xz'];
  // the others are rows of the support matrix
  for (const form of chosen(forms, (one) => ['qcow2c', 'qcow2c.xz'].includes(one))) {
    it(`fills a claim from ${form}, and binds it only when it is complete`, async () => {
      const server = await serve(await images.as(form));
      const name = `f-${form.replace('.', '-')}`;
      const phases = new Set<string>();
      await world.createImport(namespace, name, { url: server.url });
      const done = await eventually(`${name} succeeds`, 60_000, async () => {
        // The claim is read first: a claim that is Bound while the DataVolume read later is still importing breaks G1.
        const claim = await world.claim(namespace, name);
        const volume = await world.read(namespace, name);
        phases.add(volume?.status?.phase ?? '');
        assert.notEqual(volume?.status?.phase, 'Failed', JSON.stringify(volume?.status));
        if (claim?.status?.phase === 'Bound') assert.notEqual(volume?.status?.phase, 'ImportScheduled');
        return volume?.status?.phase === 'Succeeded' ? volume : undefined;
      });
      assert.equal(done.status?.progress, '100.0%');
      assert.equal(done.status?.claimName, name);
      assert.deepEqual(
        Object.fromEntries(
          (done.status?.conditions ?? []).map(({ type, status, reason }) => [
            type,
            `${status} ${reason}`.trim(),
          ]),
        ),
        { Bound: 'True Bound', Ready: 'True', Running: 'False Completed' },
      );
      const disk = await world.diskOf(namespace, name);
      await assertSameDisk(images.raw, 'raw', disk);
      const { mode, size } = await stat(disk);
      assert.equal(mode & 0o777, 0o660);
      assert.equal(size, 64 << 20);
      const claim = await world.claim(namespace, name);
      assert.deepEqual(
        Object.keys({ ...claim?.metadata?.labels, ...claim?.metadata?.annotations }).filter((key) =>
          key.startsWith('dvflow.io/unpub'),
        ),
        [],
      );
      if (form === 'qcow2')
        await recordHistory(
          stack,
          `datavolume/${namespace}/${name}/${done.metadata.uid}`,
          'importDataVolume.succeeded',
        );
    });
  }

  it('is never Bound before the disk is complete: a watch of the claim sees Pending, then Bound after the volume was made', async () => {
    const server = await serve(await images.as('raw'), { bytesPerSecond: 16 << 20 });
    const name = 'watched';
    const states: string[] = [];
    const watched = await stack.watch(
      `/api/v1/namespaces/${namespace}/persistentvolumeclaims`,
      (type, object) => {
        const claim = object as {
          metadata: { name: string };
          status?: { phase?: string };
          spec?: { volumeName?: string };
        };
        if (claim.metadata.name === name)
          states.push(`${type} ${claim.status?.phase} ${claim.spec?.volumeName ? 'with' : 'without'} volume`);
      },
    );
    await world.createImport(namespace, name, { url: server.url });
    await world.awaitPhase(namespace, name, 'ImportInProgress');
    await world.awaitPhase(namespace, name, 'Succeeded');
    const dataVolume = await world.read(namespace, name);
    await eventually('the watch sees Bound', 30_000, async () =>
      states.some((state) => state.includes('Bound')) ? true : undefined,
    );
    watched.stop();
    const firstBound = states.findIndex((state) => state.includes('Bound'));
    assert.ok(
      states.slice(0, firstBound).every((state) => state.includes('Pending')),
      states.join('\n'),
    );
    assert.equal(dataVolume?.status?.phase, 'Succeeded');
  });

  it('shows progress at least once a second while bytes move', async () => {
    const server = await serve(await images.as('raw'), { bytesPerSecond: 3 << 20 });
    const name = 'progress';
    const seen: { at: number; progress: string }[] = [];
    const watched = await stack.watch(
      `/apis/cdi.kubevirt.io/v1beta1/namespaces/${namespace}/datavolumes`,
      (_type, object) => {
        const volume = object as {
          metadata: { name: string };
          status?: { phase?: string; progress?: string };
        };
        if (volume.metadata.name !== name || volume.status?.phase !== 'ImportInProgress') return;
        const progress = volume.status.progress ?? '';
        if (seen.at(-1)?.progress !== progress) seen.push({ at: Date.now(), progress });
      },
    );
    await world.createImport(namespace, name, { url: server.url });
    await world.awaitPhase(namespace, name, 'Succeeded');
    watched.stop();
    const moving = seen.filter(({ progress }) => /^\d+\.\d\d%$/.test(progress));
    const values = moving.map(({ progress }) => Number.parseFloat(progress));
    assert.deepEqual(
      values,
      [...values].sort((a, b) => a - b),
      'progress goes backwards',
    );
    assert.ok(moving.length >= 3, `only ${moving.length} values: ${JSON.stringify(seen)}`);
    assert.ok(values.every((value) => value < 100));
  });

  it('applies the same DataVolume twice as one import', async () => {
    const server = await serve(await images.as('qcow2'));
    const first = await world.createImport(namespace, 'twice', { url: server.url });
    await assert.rejects(world.createImport(namespace, 'twice', { url: server.url }), { code: 409 });
    await world.awaitPhase(namespace, 'twice', 'Succeeded');
    const runs = stack.temporal.workflow.list({ query: `DataVolumeUid = '${first.metadata.uid}'` });
    await eventually('visibility', 30_000, async () => {
      const found = [];
      for await (const execution of runs) found.push(execution.workflowId);
      return found.length === 1 ? true : undefined;
    });
  });

  it('verifies a checksum of the bytes as served', async () => {
    const path = await images.as('qcow2.xz');
    const server = await serve(path);
    const { sha256 } = await import('./world.js');
    await world.createImport(namespace, 'checked', {
      url: server.url,
      checksum: `sha256:${await sha256(path)}`,
    });
    await world.awaitPhase(namespace, 'checked', 'Succeeded');
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'checked'));
  });

  it('inflates a size under storage, and takes one under pvc as it is', async () => {
    const server = await serve(await images.as('qcow2'));
    const pvc = {
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: '64Mi' } },
      storageClassName: 'hostpath-provisioner',
    };
    await world.createImport(namespace, 'sized-pvc', { url: server.url }, { storage: undefined, pvc });
    await world.awaitPhase(namespace, 'sized-pvc', 'Succeeded');
    const claim = await world.claim(namespace, 'sized-pvc');
    assert.equal(String(claim?.spec?.resources?.requests?.storage), '64Mi');
    // floor_1Mi(ceil(67108864 / 1.06)) = 60 MiB (cdi.md §2.10)
    assert.equal((await stat(await world.diskOf(namespace, 'sized-pvc'))).size, 60 << 20);
  });
});
