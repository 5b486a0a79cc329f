/** Chapter "Storage defaults for DataVolumes" (`vm-disks-docs.md` 102-122, M14), and what else decides modes and sizes that are left out. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StorageV1Api } from '@kubernetes/client-node';
import { MERGE_PATCH } from '../../activities/kubernetes/client.js';
import { runKubectl } from '../../local/kubectl.js';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from './images.js';
import { createWorld, eventually, type World } from './world.js';

const CLASS = 'hostpath-provisioner';
const PROVISIONER = 'kubevirt.io/hostpath-provisioner';
const CONFIG_MAP = 'kubevirt-storage-class-defaults';
const DOCUMENTED = new URL('../deploy/documented/storage-class-defaults.yaml', import.meta.url);
const CDI = { group: 'cdi.kubevirt.io', version: 'v1beta1' } as const;

describe('storage defaults, end to end', function () {
  this.timeout(120_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let server: FileServer;
  let namespace: string;
  let storage: StorageV1Api;
  let count = 0;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 2, dataMiB: 1 });
    server = await startFileServer({ path: images.raw });
    namespace = await world.createNamespace('defaults');
    storage = stack.kubeConfig.makeApiClient(StorageV1Api);
  });
  after(async () => {
    await server.close();
    await images.remove();
  });

  /** Imports with this `spec.storage` (or other `spec`) and resolves with what the claim asked for. */
  async function importedModes(more: object = {}, spec?: object): Promise<string> {
    const name = await start(more, spec);
    await world.awaitPhase(namespace, name, 'Succeeded');
    const claim = await world.claim(namespace, name);
    const { accessModes, volumeMode, storageClassName, resources } = claim?.spec ?? {};
    return `${storageClassName} ${accessModes?.join()} ${volumeMode} ${resources?.requests?.['storage']}`;
  }

  async function start(more: object = {}, spec?: object): Promise<string> {
    const name = `dv-${++count}`;
    const resources = { requests: { storage: '64Mi' } };
    const storageSpec = { storage: { resources, storageClassName: CLASS, ...more } };
    await world.createImport(namespace, name, { url: server.url }, spec ?? storageSpec);
    return name;
  }

  /** Imports and resolves with why that failed. */
  async function refusal(more: object = {}): Promise<string> {
    const name = await start(more);
    const { status } = await world.awaitPhase(namespace, name, 'Failed');
    const running = status?.conditions?.find(({ type }) => type === 'Running');
    assert.equal(await world.claim(namespace, name), undefined, 'nothing was allocated');
    return `${running?.reason}: ${running?.message}`;
  }

  async function patchCdi(plural: string, name: string, body: object): Promise<void> {
    await world.custom.patchClusterCustomObject({ ...CDI, plural, name, body }, MERGE_PATCH);
  }

  describe('ConfigMap kubevirt-storage-class-defaults', () => {
    before(async () => {
      // another suite's may still be going
      await eventually('namespace openshift-cnv', 60_000, async () => {
        return await stack.kubectl(['create', 'namespace', 'openshift-cnv']).catch(() => undefined);
      });
    });
    after(async () => {
      await stack.kubectl(['delete', 'configmap', CONFIG_MAP, '-n', 'openshift-cnv', '--ignore-not-found']);
      await stack.kubectl(['delete', 'namespace', 'openshift-cnv', '--wait=false']);
    });

    /** `oc edit configmap kubevirt-storage-class-defaults -n openshift-cnv` with an editor that appends lines to `data`. */
    async function edit(lines: readonly string[]): Promise<void> {
      const directory = mkdtempSync(join(tmpdir(), 'dvflow-editor-'));
      const editor = join(directory, 'editor');
      const added = lines.map((line) => `  ${line}\\n`).join('');
      writeFileSync(editor, `#!/bin/sh\nexec sed -i 's/^data:$/data:\\n${added}/' "$1"\n`);
      chmodSync(editor, 0o755);
      try {
        const args = ['edit', 'configmap', CONFIG_MAP, '-n', 'openshift-cnv'];
        await runKubectl(stack.info.kubectl, args, { env: { KUBE_EDITOR: editor } });
      } finally {
        rmSync(directory, { recursive: true });
      }
    }

    it("gives the documented default modes with the document's own example", async () => {
      // M14b, without its line `...`, which would end the YAML document before `data` (erratum E1 is about its names)
      await stack.kubectl(['create', '-f', '-'], { input: readFileSync(DOCUMENTED, 'utf8') });
      assert.match(await importedModes(), /^hostpath-provisioner ReadWriteOnce Filesystem /);
    });

    it('is edited as documented, and the next DataVolume follows', async () => {
      await edit([`${CLASS}.accessMode: ReadWriteOncePod`, `${CLASS}.volumeMode: Filesystem`]);
      assert.match(await importedModes(), / ReadWriteOncePod Filesystem /);
      assert.match(await importedModes({ accessModes: ['ReadWriteOnce'] }), / ReadWriteOnce Filesystem /);
      const resources = { requests: { storage: '64Mi' } };
      const pvc = { accessModes: ['ReadWriteOnce'], resources, storageClassName: CLASS };
      assert.match(await importedModes({}, { pvc, storage: undefined }), / ReadWriteOnce Filesystem 64Mi$/);
    });

    it('is refused where the class cannot do it, with what it can', async () => {
      await stack.kubectl([
        'patch',
        'configmap',
        CONFIG_MAP,
        '-n',
        'openshift-cnv',
        '--type=merge',
        '-p',
        JSON.stringify({ data: { [`${CLASS}.volumeMode`]: 'Block' } }),
      ]);
      assert.equal(
        await refusal(),
        `IncompatiblePVC: volumeMode is Block, as key "${CLASS}.volumeMode" of ConfigMap ${CONFIG_MAP} says: ` +
          `StorageClass "${CLASS}" offers ReadWriteOnce with Filesystem`,
      );
    });

    it('says which value is no mode', async () => {
      const data = { [`${CLASS}.volumeMode`]: null, [`${CLASS}.accessMode`]: 'RWO' };
      await stack.kubectl([
        'patch',
        'configmap',
        CONFIG_MAP,
        '-n',
        'openshift-cnv',
        '--type=merge',
        '-p',
        JSON.stringify({ data }),
      ]);
      assert.match(
        await refusal(),
        /^IncompatiblePVC: key "hostpath-provisioner.accessMode" of ConfigMap kubevirt-storage-class-defaults is "RWO": it is one of ReadWriteOnce, /,
      );
      // one that is not needed is no matter
      assert.match(await importedModes({ accessModes: ['ReadWriteOnce'] }), / ReadWriteOnce Filesystem /);
    });
  });

  it('a StorageProfile appears with its class, and what is written into it is what the next DataVolume gets', async () => {
    const name = 'profiled';
    const body = { metadata: { name }, provisioner: PROVISIONER, volumeBindingMode: 'Immediate' };
    await storage.createStorageClass({ body });
    try {
      const shown = await eventually(`profile ${name}`, 20_000, async () => {
        const args = ['get', 'storageprofile', name, '-o', 'jsonpath={.status.claimPropertySets}'];
        const sets = await stack.kubectl(args).catch(() => '');
        return sets === '' ? undefined : sets;
      });
      assert.deepEqual(JSON.parse(shown), [{ accessModes: ['ReadWriteOnce'], volumeMode: 'Filesystem' }]);
      assert.match(await importedModes({ storageClassName: name }), /^profiled ReadWriteOnce Filesystem /);
      const claimPropertySets = [{ accessModes: ['ReadWriteOncePod'], volumeMode: 'Filesystem' }];
      await patchCdi('storageprofiles', name, { spec: { claimPropertySets } });
      assert.match(await importedModes({ storageClassName: name }), /^profiled ReadWriteOncePod Filesystem /);
      assert.match(
        await refusal({ storageClassName: name, accessModes: ['ReadWriteOnce'] }),
        /^IncompatiblePVC: accessMode is ReadWriteOnce, and volumeMode is Filesystem, .*: StorageClass "profiled" offers ReadWriteOncePod with Filesystem$/,
      );
    } finally {
      await storage.deleteStorageClass({ name });
    }
    await eventually(`profile ${name} is gone`, 20_000, async () =>
      (await stack.kubectl(['get', 'storageprofile', name, '--ignore-not-found'])) === '' ? true : undefined,
    );
  });

  it("the default class for disks goes before Kubernetes' own, for storage and not for pvc or archives", async () => {
    const name = 'for-disks';
    await storage.createStorageClass({
      body: {
        metadata: { name, annotations: { 'storageclass.kubevirt.io/is-default-virt-class': 'true' } },
        provisioner: PROVISIONER,
        volumeBindingMode: 'Immediate',
      },
    });
    try {
      const resources = { requests: { storage: '64Mi' } };
      const pvc = { accessModes: ['ReadWriteOnce'], resources };
      assert.match(await importedModes({ storageClassName: undefined }), /^for-disks /);
      assert.match(
        await importedModes({}, { pvc, storage: undefined }),
        /^hostpath-provisioner ReadWriteOnce /,
      );
      const mark = 'storageclass.kubevirt.io/is-default-virt-class';
      await stack.kubectl(['annotate', 'storageclass', name, `${mark}-`]);
      assert.match(await importedModes({ storageClassName: undefined }), /^hostpath-provisioner /);
    } finally {
      await storage.deleteStorageClass({ name });
    }
  });

  it('an edit of the CDI reaches CDIConfig, and the next DataVolume has the new overhead', async () => {
    assert.match(await importedModes(), / 71135396$/);
    const body = { apiVersion: 'cdi.kubevirt.io/v1beta1', kind: 'CDI', metadata: { name: 'cdi' }, spec: {} };
    await world.custom.createClusterCustomObject({ ...CDI, plural: 'cdis', body });
    const overheadOf = async (): Promise<string> =>
      await stack.kubectl([
        'get',
        'cdiconfig',
        'config',
        '-o',
        `jsonpath={.status.filesystemOverhead.storageClass.${CLASS}}`,
      ]);
    const awaitOverhead = async (overhead: string): Promise<true> =>
      await eventually(`overhead ${overhead}`, 20_000, async () =>
        (await overheadOf()) === overhead ? true : undefined,
      );
    try {
      await eventually('the CDI rules', 20_000, async () => {
        const yaml = await stack.kubectl(['get', 'cdi', 'cdi', '-o', 'yaml']);
        return yaml.includes('configAuthority') && yaml.includes('HonorWaitForFirstConsumer')
          ? true
          : undefined;
      });
      await patchCdi('cdis', 'cdi', {
        spec: { config: { filesystemOverhead: { storageClass: { [CLASS]: '0.5' } } } },
      });
      await awaitOverhead('0.5');
      assert.match(await importedModes(), / 96Mi$/);
      await patchCdi('cdis', 'cdi', { spec: { config: { filesystemOverhead: null } } });
      await awaitOverhead('0.06');
    } finally {
      await world.custom.deleteClusterCustomObject({ ...CDI, plural: 'cdis', name: 'cdi' });
    }
  });
});
