/** Sections 6.12.2.3 and 6.12.3.5 to 6.12.3.6 by the real virtctl: statements 35, 43-51, 52-53, 67-74, manifests M5, M7, M8, errata E4 and E5. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { copyFile } from 'node:fs/promises';
import { projectPath } from '../docs/documents.js';
import { useStack } from '../support/stack.js';
import { buildVirtctl, runVirtctl, type Ended } from '../support/virtctl.js';
import { makeImages, type Images } from '../live/images.js';
import { assertSameDisk, createWorld, eventually, type World } from '../live/world.js';
import { describeNamespace } from '../live/stuck.js';
import { documented } from './documented.js';

/** The class that the chapter's local block volume is of. */
const CLASS = projectPath('deploy/examples/storage-class-local.yaml');
const VOLUME = 'local-block-pv-upload';

/** The default of its time: volumes that wait for their consumer came later, and are waited for. Of two defaults the newer one counts. */
const AT_ONCE = {
  apiVersion: 'storage.k8s.io/v1',
  kind: 'StorageClass',
  metadata: {
    name: 'upload-chapter',
    annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' },
  },
  provisioner: 'kubevirt.io/hostpath-provisioner',
  volumeBindingMode: 'Immediate',
};

describe('the chapters on uploads, by the virtctl of their time', function () {
  this.timeout(120_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let namespace: string;
  let virtctl: string;

  before('build virtctl', async function () {
    this.timeout(900_000);
    virtctl = await buildVirtctl('v0.36.0');
  });
  before('prepare a StorageClass (statement 37)', async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 32, dataMiB: 16 });
    namespace = await world.createNamespace('upload-chapter');
    await stack.kubectl(['create', '-f', '-'], { input: JSON.stringify(AT_ONCE) });
  });
  after(async () => {
    await stack.kubectl(['delete', 'storageclass', AT_ONCE.metadata.name]);
    await images.remove();
  });

  async function upload(...args: readonly string[]): Promise<Ended> {
    return await runVirtctl(virtctl, stack.info.kubeconfig, ['image-upload', ...args, '-n', namespace], () =>
      describeNamespace(stack, namespace),
    );
  }

  for (const form of ['qcow2', 'raw', 'qcow2.xz', 'raw.gz', 'iso']) {
    it(`uploads ${form} into a new claim by name, size and file, and get pvc shows it`, async () => {
      const path = form === 'iso' ? join(images.directory, 'disk.iso') : await images.as(form);
      if (form === 'iso') await copyFile(images.raw, path);
      const name = `upload-${form.replace('.', '-')}`;
      const { code, output } = await upload(
        `--pvc-name=${name}`,
        '--pvc-size=64Mi',
        `--image-path=${path}`,
        '--insecure',
      );
      assert.equal(code, 0, output);
      const shown = await stack.kubectl(['get', 'pvc', '-n', namespace]);
      assert.match(shown, new RegExp(`^${name} +Bound +pvc-`, 'm'));
      await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, name));
    });
  }

  it('needs name, size and file', async () => {
    const image = `--image-path=${await images.as('qcow2')}`;
    const wrong: readonly (readonly string[])[] = [
      [image, '--pvc-size=64Mi'],
      ['--pvc-name=incomplete', image],
      ['--pvc-name=incomplete', '--pvc-size=64Mi'],
    ];
    for (const args of wrong) assert.notEqual((await upload(...args, '--insecure')).code, 0, args.join(' '));
    assert.equal(await world.claim(namespace, 'incomplete'), undefined);
  });

  it('verifies who the upload endpoint is, unless it is told not to', async () => {
    const args = ['--pvc-name=verified', '--pvc-size=64Mi', `--image-path=${await images.as('qcow2')}`];
    const refused = await upload(...args);
    assert.notEqual(refused.code, 0);
    assert.match(refused.output, /x509|certificate/);
    const taken = await upload(...args, '--insecure');
    assert.equal(taken.code, 0, taken.output);
  });

  it('refuses a disk that is larger than the claim, with both figures', async () => {
    const args = ['--pvc-name=small', '--pvc-size=16Mi', `--image-path=${await images.as('qcow2')}`];
    const { code, output } = await upload(...args, '--insecure');
    assert.notEqual(code, 0);
    assert.match(output, /unexpected return value 400/);
    const refusal = await eventually('an event with the reason', 10_000, async () =>
      (await world.events(namespace, 'small')).find(({ reason }) => reason === 'UploadFailed'),
    );
    assert.match(refusal.message, /33554432 bytes.*offers 15728640/);
  });

  describe('on a block device', () => {
    before(async function () {
      if (process.getuid?.() !== 0) {
        this.test!.title += ' (loop devices need root)';
        this.skip();
      }
      await stack.kubectl(['create', '-f', CLASS]);
      await stack.temporal.workflow.execute('localBlockVolume', {
        taskQueue: 'dvflow',
        workflowId: `local-volume/${VOLUME}`,
        args: [{ name: VOLUME, node: stack.info.node, size: '2Gi' }],
      });
    });
    after(async () => {
      await stack.kubectl(['delete', 'dv', 'upload-datavolume', '-n', namespace, '--ignore-not-found']);
      await stack.kubectl(['delete', '-f', CLASS, '--ignore-not-found']);
      await stack.temporal.workflow.execute('deleteLocalBlockVolume', {
        taskQueue: 'dvflow',
        workflowId: `local-volume/delete/${VOLUME}`,
        args: [{ name: VOLUME }],
      });
    });

    it('uploads into the DataVolume of the document, with what erratum E5 misses in it, by the command that E4 means', async () => {
      const block = '{ accessModes: [ReadWriteOnce], volumeMode: Block, storageClassName: local,';
      const printed = documented('upload').replace(
        /pvc:\s+accessModes: \[ReadWriteOnce\]\s+resources: (.+)/,
        `pvc: ${block} resources: $1 }`,
      );
      assert.match(printed, /volumeMode: Block/);
      await stack.kubectl(['create', '-n', namespace, '-f', '-'], { input: printed });
      const never = await upload('--dv-name=upload-datavolume', `--image-path=${images.raw}`);
      assert.match(never.output, /unknown flag: --dv-name/);
      await world.awaitPhase(namespace, 'upload-datavolume', 'UploadReady', 60_000);
      const args = [
        'dv',
        'upload-datavolume',
        '--no-create',
        `--image-path=${await images.as('qcow2')}`,
        '--insecure',
      ];
      const { code, output } = await upload(...args);
      assert.equal(code, 0, output);
      const shown = await stack.kubectl(['get', 'dvs', '-n', namespace]);
      assert.match(shown, /^upload-datavolume +Succeeded +100\.0%/m);
      const claim = await world.claim(namespace, 'upload-datavolume');
      assert.deepEqual([claim?.spec?.volumeName, claim?.spec?.volumeMode], [VOLUME, 'Block']);
      const { spec } = await world.core.readPersistentVolume({ name: VOLUME });
      await assertSameDisk(images.raw, 'raw', spec!.local!.path);
    });
  });
});
