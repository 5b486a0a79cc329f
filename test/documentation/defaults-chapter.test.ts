/** Section 6.12.6, done as it is printed: statements 102-122, manifests M14a and M14b, erratum E1. */
import assert from 'node:assert/strict';
import { startFileServer, type FileServer } from '../support/servers/index.js';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from '../live/images.js';
import { createWorld, type World } from '../live/world.js';
import { CNV, createCnvNamespace, documented } from './documented.js';

const CONFIG_MAP = 'kubevirt-storage-class-defaults';
/** Classes by the names that the manifest of the documentation uses. */
const CLASSES = ['nfs-sc', 'block-sc', 'plain-sc'];

describe('the chapter on storage defaults, word for word', function () {
  this.timeout(120_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let server: FileServer;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 16, dataMiB: 4 });
    server = await startFileServer({ path: await images.as('qcow2') });
    namespace = await world.createNamespace('defaults');
    await createCnvNamespace(stack);
    for (const name of CLASSES) {
      const input = documented('storage-class', { 'name: hostpath-provisioner': `name: ${name}` });
      await stack.kubectl(['create', '-f', '-'], { input });
    }
  });
  after(async () => {
    await stack.kubectl(['delete', '--wait=false', 'namespace', CNV]);
    await stack.kubectl(['delete', 'storageclass', ...CLASSES]);
    await server.close();
    await images.remove();
  });

  /** A DataVolume that says size and class only, as the console makes one. */
  async function importInto(storageClassName: string, name: string): Promise<void> {
    const storage = { resources: { requests: { storage: '64Mi' } }, storageClassName };
    await world.createImport(namespace, name, { url: server.url }, { storage });
  }

  async function modesOf(name: string): Promise<readonly unknown[]> {
    await world.awaitPhase(namespace, name, 'Succeeded');
    const claim = await world.claim(namespace, name);
    return [claim?.spec?.accessModes, claim?.spec?.volumeMode];
  }

  async function refusalOf(name: string): Promise<string> {
    const failed = await world.awaitPhase(namespace, name, 'Failed', 20_000);
    const running = failed.status?.conditions?.find(({ type }) => type === 'Running');
    return `${running?.reason}: ${running?.message}`;
  }

  it('gives a claim ReadWriteOnce and Filesystem where nothing else is said', async () => {
    await importInto('plain-sc', 'without');
    assert.deepEqual(await modesOf('without'), [['ReadWriteOnce'], 'Filesystem']);
  });

  it('creates the ConfigMap as printed', async () => {
    await stack.kubectl(['create', '-f', '-'], { input: documented('storage-class-defaults') });
    const data = await stack.kubectl(['get', 'configmap', CONFIG_MAP, '-n', CNV, '-o', 'jsonpath={.data}']);
    assert.deepEqual(JSON.parse(data), {
      accessMode: 'ReadWriteOnce',
      volumeMode: 'Filesystem',
      'nfs-sc.accessMode': 'ReadWriteMany',
      'nfs-sc.volumeMode': 'Filesystem',
      'block-sc.accessMode': 'ReadWriteMany',
      'block-sc.volumeMode': 'Block',
    });
  });

  it('takes the keys of a class for that class, and the global ones for the others', async () => {
    for (const name of CLASSES) await importInto(name, `of-${name}`);
    assert.deepEqual(await modesOf('of-plain-sc'), [['ReadWriteOnce'], 'Filesystem']);
    assert.match(await refusalOf('of-nfs-sc'), /^IncompatiblePVC: .*ReadWriteMany/);
    assert.match(await refusalOf('of-block-sc'), /^IncompatiblePVC: .*Block/);
  });

  it('refuses modes that the storage does not support, with those that it does', async () => {
    for (const name of ['of-nfs-sc', 'of-block-sc'])
      assert.match(await refusalOf(name), /offers ReadWriteOnce.*Filesystem/);
    assert.equal(await world.claim(namespace, 'of-block-sc'), undefined, 'nothing was allocated');
  });

  it('follows an edit of the ConfigMap with the next DataVolume', async () => {
    const data = { 'block-sc.accessMode': 'ReadWriteOnce', 'block-sc.volumeMode': 'Filesystem' };
    await edit(data);
    await importInto('block-sc', 'edited');
    assert.deepEqual(await modesOf('edited'), [['ReadWriteOnce'], 'Filesystem']);
    await edit({ 'plain-sc.volumeMode': 'Block' });
    await importInto('plain-sc', 'added');
    assert.match(await refusalOf('added'), /^IncompatiblePVC: .*Block/);
  });

  /** What `oc edit` sends when the editor is left. */
  async function edit(data: Readonly<Record<string, string>>): Promise<void> {
    const patch = JSON.stringify({ data });
    await stack.kubectl(['patch', 'configmap', CONFIG_MAP, '-n', CNV, '--type=merge', '-p', patch]);
  }
});
