/** What tests of unmodified virtctl have in common: its programs, a class, images, and what virtctl of any era does. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StorageV1Api } from '@kubernetes/client-node';
import { runKubectl } from '../../local/kubectl.js';
import type { TestStack } from '../support/stack.js';
import { buildVirtctl, runVirtctl, type Ended, type VirtctlVersion } from '../support/virtctl.js';
import { makeImages, type Images } from './images.js';
import { describeNamespace } from './stuck.js';
import { assertSameDisk, createWorld, type World } from './world.js';

/** Volumes at once: nothing here consumes a claim, and old virtctl knows no `--force-bind`. */
export const CLASS = 'virtctl-immediate';

/** From nothing, beside everything else that a test run does. */
const BUILD_MS = 900_000;

/** The scene of a suite; its members are there once the hooks have run. Called in the body of `describe`. */
export function useVirtctl(stack: TestStack, versions: readonly VirtctlVersion[]): VirtctlScene {
  const scene = createScene(stack);
  before('build virtctl', async function () {
    this.timeout(BUILD_MS);
    for (const version of versions) scene.programs.set(version, await buildVirtctl(version));
  });
  before(async () => {
    scene.world = createWorld(stack);
    scene.images = await makeImages({ sizeMiB: 48, dataMiB: 16 });
    scene.namespace = await scene.world.createNamespace('virtctl');
    await stack.kubeConfig.makeApiClient(StorageV1Api).createStorageClass({
      body: {
        metadata: { name: CLASS },
        provisioner: 'kubevirt.io/hostpath-provisioner',
        volumeBindingMode: 'Immediate',
      },
    });
  });
  after(async () => {
    await stack.kubeConfig.makeApiClient(StorageV1Api).deleteStorageClass({ name: CLASS });
    await scene.images.remove();
  });
  return scene;
}

export type VirtctlScene = ReturnType<typeof createScene>;

function createScene(stack: TestStack) {
  const scene = {
    world: undefined as unknown as World,
    images: undefined as unknown as Images,
    namespace: '',
    programs: new Map<VirtctlVersion, string>(),

    /** Uploads as administrator. */
    async upload(version: VirtctlVersion, ...args: readonly string[]): Promise<Ended> {
      return await scene.uploadBy(stack.info.kubeconfig, version, ...args);
    },

    async uploadBy(kubeconfig: string, version: VirtctlVersion, ...args: readonly string[]): Promise<Ended> {
      const all = ['image-upload', ...args, '--insecure', '-n', scene.namespace];
      return await runVirtctl(scene.programs.get(version) ?? '', kubeconfig, all, () =>
        describeNamespace(stack, scene.namespace),
      );
    },

    async assertDone({ code, output }: Ended, name: string): Promise<void> {
      assert.equal(code, 0, output);
      assert.match(output, /completed successfully/);
      await assertSameDisk(scene.images.raw, 'raw', await scene.world.diskOf(scene.namespace, name));
    },

    /** A claim without anything that says what it is for. */
    async createClaim(name: string): Promise<void> {
      await scene.world.core.createNamespacedPersistentVolumeClaim({
        namespace: scene.namespace,
        body: {
          metadata: { name, annotations: { 'kubevirt.io/provisionOnNode': stack.info.node } },
          spec: {
            accessModes: ['ReadWriteOnce'],
            storageClassName: CLASS,
            resources: { requests: { storage: '64Mi' } },
          },
        },
      });
    },

    /** Kubeconfig of a ServiceAccount that is an editor of the namespace. */
    async userConfig(name: string): Promise<string> {
      const { namespace } = scene;
      await stack.kubectl(['create', 'serviceaccount', name, '-n', namespace]);
      const account = `--serviceaccount=${namespace}:${name}`;
      await stack.kubectl(['create', 'rolebinding', name, '--clusterrole=edit', account, '-n', namespace]);
      const token = await stack.kubectl(['create', 'token', name, '-n', namespace]);
      const view = await runKubectl(stack.info.kubectl, ['config', 'view', '--raw', '-o', 'json']);
      const config = JSON.parse(view) as { users: { user: object }[] };
      for (const user of config.users) user.user = { token };
      const path = join(scene.images.directory, `${name}.kubeconfig`);
      await writeFile(path, JSON.stringify(config));
      return path;
    },
  };
  return scene;
}

/** What users of every release do. */
export function describeUploads(scene: VirtctlScene, version: VirtctlVersion): void {
  const newer = version.startsWith('v1.');
  const name = (what: string): string => `${what}-${version.replaceAll('.', '-')}`;

  describe(version, () => {
    it('dv NAME', async () => {
      const { images, world, namespace } = scene;
      const args = [
        'dv',
        name('dv'),
        '--size=64Mi',
        `--storage-class=${CLASS}`,
        '--image-path',
        await images.as('qcow2'),
      ];
      await scene.assertDone(await scene.upload(version, ...args), name('dv'));
      await world.awaitPhase(namespace, name('dv'), 'Succeeded', 30_000);
    });

    it('--pvc-name and --pvc-size, as the old documents have it', async () => {
      const args = [
        `--pvc-name=${name('old')}`,
        '--pvc-size=64Mi',
        `--storage-class=${CLASS}`,
        `--image-path=${await scene.images.as('raw.xz')}`,
      ];
      await scene.assertDone(await scene.upload(version, ...args), name('old'));
    });

    it('pvc NAME, by a user who may edit the namespace and nothing else', async () => {
      // newer ones look at the class that they are told, which no editor of a namespace may
      const bound = newer ? '--force-bind' : `--storage-class=${CLASS}`;
      const image = `--image-path=${await scene.images.as('raw.gz')}`;
      const config = await scene.userConfig(`user-${version}`);
      const ended = await scene.uploadBy(config, version, 'pvc', name('pvc'), '--size=64Mi', bound, image);
      await scene.assertDone(ended, name('pvc'));
    });

    it('says what is wrong with a file, and takes the next one', async () => {
      const { images } = scene;
      const rubbish = join(images.directory, 'rubbish.qcow2');
      await writeFile(rubbish, (await readFile(await images.as('qcow2'))).subarray(0, 1_000_000));
      const args = ['dv', name('twice'), '--size=64Mi', `--storage-class=${CLASS}`];
      const wrong = await scene.upload(version, ...args, `--image-path=${rubbish}`);
      assert.equal(wrong.code, 1, wrong.output);
      // older ones say the status only
      assert.match(wrong.output, newer ? /400.*cut short/s : /400|cut short/);
      await scene.assertDone(
        await scene.upload(version, ...args, `--image-path=${await images.as('qcow2')}`),
        name('twice'),
      );
    });

    it('--no-create into a claim that somebody made, once', async () => {
      const args = ['pvc', name('theirs'), '--no-create', `--image-path=${await scene.images.as('qcow2')}`];
      await scene.createClaim(name('theirs'));
      await scene.assertDone(await scene.upload(version, ...args), name('theirs'));
      const again = await scene.upload(version, ...args);
      assert.equal(again.code, 1, again.output);
      assert.match(again.output, /already successfully/);
    });
  });
}
