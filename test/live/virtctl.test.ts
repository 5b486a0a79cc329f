import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { useStack } from '../support/stack.js';
import { TRIED_VIRTCTL_VERSIONS } from '../support/virtctl.js';
import { CLASS, describeUploads, useVirtctl } from './virtctl-scene.js';
import { assertSameDisk } from './world.js';

const run = promisify(execFile);

describe('virtctl image-upload, unmodified', function () {
  this.timeout(180_000);
  const stack = useStack();
  const scene = useVirtctl(stack, TRIED_VIRTCTL_VERSIONS);

  for (const version of TRIED_VIRTCTL_VERSIONS) describeUploads(scene, version);

  it('of today: --archive-path', async () => {
    const { images, world, namespace } = scene;
    const directory = join(images.directory, 'tree');
    await mkdir(join(directory, 'etc'), { recursive: true });
    await writeFile(join(directory, 'etc', 'motd'), 'hello\n');
    const archive = join(images.directory, 'tree.tar');
    await run('tar', ['-cf', archive, '-C', directory, '.']);
    const args = ['dv', 'archive', '--size=64Mi', `--storage-class=${CLASS}`, `--archive-path=${archive}`];
    const { code, output } = await scene.upload('v1.7.0', ...args);
    assert.equal(code, 0, output);
    const root = dirname(await world.diskOf(namespace, 'archive'));
    assert.equal(await readFile(join(root, 'etc', 'motd'), 'utf8'), 'hello\n');
  });

  it('of today: --force-bind, and --datasource', async () => {
    const { images, namespace } = scene;
    const image = `--image-path=${await images.as('qcow2')}`;
    const made = await scene.upload(
      'v1.7.0',
      'dv',
      'forced',
      '--size=64Mi',
      `--storage-class=${CLASS}`,
      '--force-bind',
      '--datasource',
      image,
    );
    await scene.assertDone(made, 'forced');
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
  });

  it('curl, as CDI documents it: a body, a form, a stream of unknown length', async () => {
    const { images, world, namespace } = scene;
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
      metadata: { name, namespace: scene.namespace },
      spec: {
        source: { upload: {} },
        storage: { storageClassName: CLASS, resources: { requests: { storage: '64Mi' } } },
      },
    };
  }
});
