import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { StorageV1Api } from '@kubernetes/client-node';
import { runKubectl } from '../../local/kubectl.js';
import { useStack } from '../support/stack.js';
import {
  buildVirtctl,
  runVirtctl,
  VIRTCTL_VERSIONS,
  type Ended,
  type VirtctlVersion,
} from '../support/virtctl.js';
import { makeImages, type Images } from './images.js';
import { assertSameDisk, createWorld, type World } from './world.js';

const run = promisify(execFile);
/** Volumes at once: nothing here consumes a claim, and old virtctl knows no `--force-bind`. */
const CLASS = 'virtctl-immediate';

/** From nothing, beside everything else that a test run does. */
const BUILD_MS = 900_000;

describe('virtctl image-upload, unmodified', function () {
  this.timeout(180_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let namespace: string;
  const programs = new Map<VirtctlVersion, string>();

  before('build virtctl', async function () {
    this.timeout(BUILD_MS);
    for (const version of VIRTCTL_VERSIONS) programs.set(version, await buildVirtctl(version));
  });
  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 48, dataMiB: 16 });
    namespace = await world.createNamespace('virtctl');
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
    await images.remove();
  });

  async function upload(version: VirtctlVersion, ...args: readonly string[]): Promise<Ended> {
    const all = ['image-upload', ...args, '--insecure', '-n', namespace];
    return await runVirtctl(programs.get(version) ?? '', stack.info.kubeconfig, all);
  }

  async function assertDone({ code, output }: Ended, name: string): Promise<void> {
    assert.equal(code, 0, output);
    assert.match(output, /completed successfully/);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, name));
  }

  for (const version of VIRTCTL_VERSIONS) {
    describe(version, () => {
      const name = (what: string): string => `${what}-${version.replaceAll('.', '-')}`;

      it('dv NAME', async () => {
        const args = [
          'dv',
          name('dv'),
          '--size=64Mi',
          `--storage-class=${CLASS}`,
          '--image-path',
          await images.as('qcow2'),
        ];
        await assertDone(await upload(version, ...args), name('dv'));
        await world.awaitPhase(namespace, name('dv'), 'Succeeded', 10_000);
      });

      it('--pvc-name and --pvc-size, as the old documents have it', async () => {
        const args = [
          `--pvc-name=${name('old')}`,
          '--pvc-size=64Mi',
          `--storage-class=${CLASS}`,
          `--image-path=${await images.as('raw.xz')}`,
        ];
        await assertDone(await upload(version, ...args), name('old'));
      });

      it('pvc NAME, by a user who may edit the namespace and nothing else', async () => {
        // today's looks at the class that it is told, which no editor of a namespace may
        const bound = version === 'v1.7.0' ? '--force-bind' : `--storage-class=${CLASS}`;
        const args = ['pvc', name('pvc'), '--size=64Mi', bound, `--image-path=${await images.as('raw.gz')}`];
        const config = await userConfig(`user-${version}`);
        const all = ['image-upload', ...args, '--insecure', '-n', namespace];
        await assertDone(await runVirtctl(programs.get(version) ?? '', config, all), name('pvc'));
      });

      it('says what is wrong with a file, and takes the next one', async () => {
        const rubbish = join(images.directory, 'rubbish.qcow2');
        await writeFile(rubbish, (await readFile(await images.as('qcow2'))).subarray(0, 1_000_000));
        const args = ['dv', name('twice'), '--size=64Mi', `--storage-class=${CLASS}`];
        const wrong = await upload(version, ...args, `--image-path=${rubbish}`);
        assert.equal(wrong.code, 1, wrong.output);
        // older ones say the status only
        assert.match(wrong.output, version === 'v1.7.0' ? /400.*cut short/s : /400|cut short/);
        await assertDone(
          await upload(version, ...args, `--image-path=${await images.as('qcow2')}`),
          name('twice'),
        );
      });
    });
  }

  it('of today: --archive-path', async () => {
    const directory = join(images.directory, 'tree');
    await mkdir(join(directory, 'etc'), { recursive: true });
    await writeFile(join(directory, 'etc', 'motd'), 'hello\n');
    const archive = join(images.directory, 'tree.tar');
    await run('tar', ['-cf', archive, '-C', directory, '.']);
    const args = ['dv', 'archive', '--size=64Mi', `--storage-class=${CLASS}`, `--archive-path=${archive}`];
    const { code, output } = await upload('v1.7.0', ...args);
    assert.equal(code, 0, output);
    const root = dirname(await world.diskOf(namespace, 'archive'));
    assert.equal(await readFile(join(root, 'etc', 'motd'), 'utf8'), 'hello\n');
  });

  it('of today: --no-create into a claim that somebody made, --force-bind, and --datasource', async () => {
    const image = `--image-path=${await images.as('qcow2')}`;
    const made = await upload(
      'v1.7.0',
      'dv',
      'forced',
      '--size=64Mi',
      `--storage-class=${CLASS}`,
      '--force-bind',
      '--datasource',
      image,
    );
    await assertDone(made, 'forced');
    const source = await stack.kubectl([
      'get',
      'datasource',
      'forced',
      '-n',
      namespace,
      '-o',
      'jsonpath={.spec.source.pvc.name}',
    ]);
    assert.equal(source, 'forced');
    await world.core.createNamespacedPersistentVolumeClaim({
      namespace,
      body: {
        metadata: { name: 'theirs', annotations: { 'kubevirt.io/provisionOnNode': stack.info.node } },
        spec: {
          accessModes: ['ReadWriteOnce'],
          storageClassName: CLASS,
          resources: { requests: { storage: '64Mi' } },
        },
      },
    });
    await assertDone(await upload('v1.7.0', 'pvc', 'theirs', '--no-create', image), 'theirs');
    const again = await upload('v1.7.0', 'pvc', 'theirs', '--no-create', image);
    assert.equal(again.code, 1);
    assert.match(again.output, /already successfully/);
  });

  it('curl, as CDI documents it: a body, a form, a stream of unknown length', async () => {
    const url = (path: string): string => `https://127.0.0.1:${stack.info.ports.gateway}/v1beta1/${path}`;
    const image = await images.as('qcow2');
    const ways: readonly (readonly [name: string, args: readonly string[]])[] = [
      ['curl-body', ['--data-binary', `@${image}`, url('upload')]],
      ['curl-form', ['-F', `file=@${image}`, url('upload-form')]],
      ['curl-async', ['--data-binary', `@${image}`, url('upload-async')]],
      ['curl-chunks', ['-X', 'POST', '-T', '-', url('upload')]],
    ];
    for (const [name, args] of ways) {
      await stack.kubectl(['create', '-f', '-'], { input: JSON.stringify(dataVolume(name)) });
      await world.awaitPhase(namespace, name, 'UploadReady', 60_000);
      const input = JSON.stringify({
        apiVersion: 'upload.cdi.kubevirt.io/v1beta1',
        kind: 'UploadTokenRequest',
        metadata: { name, namespace },
        spec: { pvcName: name },
      });
      const token = await stack.kubectl(['apply', '-f', '-', '-o', 'jsonpath={.status.token}'], { input });
      const script = `curl --silent --show-error --insecure --write-out '%{http_code}' --output /dev/null -H "Authorization: Bearer $TOKEN" "$@" < "$IMAGE"`;
      const { stdout } = await run('sh', ['-c', script, 'sh', ...args], {
        env: { ...process.env, TOKEN: token, IMAGE: image },
      });
      assert.equal(stdout, '200', name);
      await world.awaitPhase(namespace, name, 'Succeeded', 30_000);
      await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, name));
    }
  });

  function dataVolume(name: string): object {
    return {
      apiVersion: 'cdi.kubevirt.io/v1beta1',
      kind: 'DataVolume',
      metadata: { name, namespace },
      spec: {
        source: { upload: {} },
        storage: { storageClassName: CLASS, resources: { requests: { storage: '64Mi' } } },
      },
    };
  }

  /** Kubeconfig of a ServiceAccount that is an editor of the namespace. */
  async function userConfig(name: string): Promise<string> {
    await stack.kubectl(['create', 'serviceaccount', name, '-n', namespace]);
    const account = `--serviceaccount=${namespace}:${name}`;
    await stack.kubectl(['create', 'rolebinding', name, '--clusterrole=edit', account, '-n', namespace]);
    const token = await stack.kubectl(['create', 'token', name, '-n', namespace]);
    const view = await runKubectl(stack.info.kubectl, ['config', 'view', '--raw', '-o', 'json']);
    const config = JSON.parse(view) as { users: { user: object }[] };
    for (const user of config.users) user.user = { token };
    const path = join(images.directory, `${name}.kubeconfig`);
    await writeFile(path, JSON.stringify(config));
    return path;
  }
});
