/** Section 6.12.7, done as it is printed: statements 124-133, 139 and 140, manifest M15, errata E3, E13 and E16. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import { parseQuantity } from '../../activities/kubernetes/quantity.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from '../live/images.js';
import { assertSameDisk, createWorld, eventually, type World } from '../live/world.js';
import { documented } from './documented.js';

const MiB = 1 << 20;
/** Where dvflow keeps what is not the user's. */
const SCRATCH_NAMESPACE = 'dvflow-transfers';
const TARGET_CLASS = 'target-class';
const SCRATCH_CLASS = 'scratch-class';
const STACK_CLASS = 'hostpath-provisioner';
const IS_DEFAULT = 'storageclass.kubernetes.io/is-default-class';

describe('the chapter on scratch space, word for word', function () {
  this.timeout(120_000);
  const stack = useStack();
  const seen: V1PersistentVolumeClaim[] = [];
  let watched: { stop(): void };
  let world: World;
  let images: Images;
  let server: FileServer;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 32, dataMiB: 24 });
    // A file that qemu-img has to read at will, on a server that gives it in order only: it has to be kept somewhere.
    const vmdk = join(images.directory, 'disk.vmdk');
    await promisify(execFile)('qemu-img', ['convert', '-O', 'vmdk', images.raw, vmdk]);
    server = await startFileServer({ path: vmdk, ranges: false });
    namespace = await world.createNamespace('scratch');
    for (const name of [TARGET_CLASS, SCRATCH_CLASS]) {
      const input = documented('storage-class', { 'name: hostpath-provisioner': `name: ${name}` });
      await stack.kubectl(['create', '-f', '-'], { input });
    }
    watched = await stack.watch(
      `/api/v1/namespaces/${SCRATCH_NAMESPACE}/persistentvolumeclaims`,
      (_type, claim) => {
        seen.push(claim as V1PersistentVolumeClaim);
      },
    );
  });
  after(async () => {
    watched.stop();
    await configure(null);
    await stack.kubectl(['annotate', '--overwrite', 'storageclass', STACK_CLASS, `${IS_DEFAULT}=true`]);
    await stack.kubectl(['delete', 'storageclass', TARGET_CLASS, SCRATCH_CLASS]);
    await server.close();
    await images.remove();
  });

  async function importInto(name: string, size = '64Mi'): Promise<void> {
    const storage = { resources: { requests: { storage: size } }, storageClassName: TARGET_CLASS };
    await world.createImport(namespace, name, { url: server.url }, { storage });
  }

  /** Imports the image and resolves with the scratch claim that there was meanwhile. */
  async function scratchOf(name: string): Promise<V1PersistentVolumeClaim> {
    seen.splice(0);
    await importInto(name);
    await world.awaitPhase(namespace, name, 'Succeeded');
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, name));
    await noneLeft();
    const claim = seen.find(({ status }) => status?.phase === 'Bound');
    assert.ok(claim, 'no scratch claim was ever Bound');
    return claim;
  }

  async function noneLeft(): Promise<void> {
    await eventually('no scratch claim and no directory of one', 60_000, async () => {
      const claims = await world.core.listNamespacedPersistentVolumeClaim({ namespace: SCRATCH_NAMESPACE });
      const { items } = await world.core.listPersistentVolume();
      const volumes = items.filter(({ spec }) => spec?.claimRef?.namespace === SCRATCH_NAMESPACE);
      return claims.items.length + volumes.length === 0 ? true : undefined;
    });
  }

  /** What `oc edit cdiconfig/config` sends when the editor is left. */
  async function configure(scratchSpaceStorageClass: string | null): Promise<void> {
    const patch = JSON.stringify({ spec: { scratchSpaceStorageClass } });
    await stack.kubectl(['patch', 'cdiconfig', 'config', '--type=merge', '-p', patch]);
  }

  it('needs scratch space for an image that cannot be streamed, of the size of the target, as a file system', async () => {
    const { spec } = await scratchOf('streamed-not');
    assert.equal(spec?.volumeMode, 'Filesystem');
    assert.deepEqual(spec.accessModes, ['ReadWriteOnce']);
    const target = await world.claim(namespace, 'streamed-not');
    const bytes = requested(spec);
    const wanted = requested(target?.spec);
    // aligned to whole MiB, as CDI does
    assert.ok(bytes >= wanted - MiB && bytes <= wanted + MiB, `${bytes} bytes for a target of ${wanted}`);
  });

  it('is rid of it when the import is aborted', async () => {
    const inventory = await world.inventory();
    seen.splice(0);
    server.setRate(2 * MiB);
    await importInto('aborted');
    await eventually('the scratch claim is Bound', 60_000, async () =>
      seen.some(({ status }) => status?.phase === 'Bound') ? true : undefined,
    );
    await world.remove(namespace, 'aborted');
    server.setRate(undefined);
    await noneLeft();
    await world.assertUnchanged(inventory, 60_000);
  });

  it('takes the class that the edited CDIConfig names, as printed', async () => {
    const input = documented('scratch-space', {
      'scratchSpaceStorageClass: hostpath-provisioner': `scratchSpaceStorageClass: ${SCRATCH_CLASS}`,
    });
    await stack.kubectl(
      ['apply', '--server-side', '--force-conflicts', '--field-manager=reader', '-f', '-'],
      { input },
    );
    const { spec } = await scratchOf('named');
    assert.equal(spec?.storageClassName, SCRATCH_CLASS);
  });

  it("takes the cluster's default class where no class has that name", async () => {
    await configure('nowhere');
    const { spec } = await scratchOf('defaulted');
    assert.equal(spec?.storageClassName, STACK_CLASS);
  });

  it('takes the class of the target where there is no default', async () => {
    await configure(null);
    await stack.kubectl(['annotate', 'storageclass', STACK_CLASS, `${IS_DEFAULT}-`]);
    const { spec } = await scratchOf('undefaulted');
    assert.equal(spec?.storageClassName, TARGET_CLASS);
  });
});

function requested(spec: V1PersistentVolumeClaim['spec']): number {
  return Number(parseQuantity(spec?.resources?.requests?.['storage'] ?? ''));
}
