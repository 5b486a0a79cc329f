import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { MERGE_PATCH } from '../../activities/kubernetes/client.js';
import { EMAIL, publicKey, serviceAccountKey } from '../image/source/gcs.js';
import { pushDisk } from '../image/support/endpoints.js';
import { putGcsObject, startGcsServer, startTokenServer } from '../support/servers/gcs-server.js';
import { startGoServer, useGoProgram, type GoServer } from '../support/servers/go-servers.js';
import { startFileServer, startProxyServer, type RunningServer } from '../support/servers/index.js';
import {
  startRegistryServer,
  useRegistryProgram,
  type RegistryServer,
} from '../support/servers/registry-server.js';
import { putObject, startS3Server } from '../support/servers/s3-server.js';
import { useStack } from '../support/stack.js';
import { makeImages, type Images } from './images.js';
import { assertSameDisk, createWorld, type World } from './world.js';

const KEYS = { accessKeyId: 'AKIDEXAMPLE', secretKey: 'pass-word/+secret' };

describe('DataVolumes from stores, registries, archives and through a proxy', function () {
  this.timeout(180_000);
  useGoProgram();
  useRegistryProgram();
  const stack = useStack();
  const servers: RunningServer[] = [];
  const stores: GoServer[] = [];
  let registry: RegistryServer | undefined;
  let world: World;
  let images: Images;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 48, dataMiB: 12 });
    namespace = await world.createNamespace('stores');
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.close()));
    await Promise.all(stores.map((store) => store.end()));
    await registry?.end();
    await images.remove();
  });

  async function serve<S extends RunningServer>(starting: Promise<S>): Promise<S> {
    const server = await starting;
    servers.push(server);
    return server;
  }
  async function startStore(kind: 's3' | 'gcs'): Promise<GoServer> {
    const store = await startGoServer(kind);
    stores.push(store);
    return store;
  }
  async function createSecret(name: string, stringData: Record<string, string>): Promise<void> {
    await world.core.createNamespacedSecret({ namespace, body: { metadata: { name }, stringData } });
  }
  async function assertImported(name: string, source: object): Promise<void> {
    await world.createImport(namespace, name, {}, { source });
    await world.awaitPhase(namespace, name, 'Succeeded', 90_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, name));
  }
  async function configure(spec: object): Promise<void> {
    await world.custom.patchClusterCustomObject(
      {
        group: 'cdi.kubevirt.io',
        version: 'v1beta1',
        plural: 'cdiconfigs',
        name: 'config',
        body: { spec },
      },
      MERGE_PATCH,
    );
  }

  it('s3, with keys out of a Secret; and is refused without them', async () => {
    const store = await startStore('s3');
    await putObject(store, '/images/disk.qcow2', readFileSync(await images.as('qcow2')));
    const { url } = await serve(startS3Server({ store, keys: { [KEYS.accessKeyId]: KEYS.secretKey } }));
    await createSecret('s3-keys', KEYS);
    const s3 = { url: `${url}/images/disk.qcow2` };
    await assertImported('from-s3', { s3: { ...s3, secretRef: 's3-keys' } });
    await world.createImport(namespace, 'from-s3-as-nobody', {}, { source: { s3 } });
    const { status } = await world.awaitPhase(namespace, 'from-s3-as-nobody', 'Failed');
    assert.match(JSON.stringify(status?.conditions), /SourceForbidden/);
  });

  it('gcs, with the key of a service account', async () => {
    const store = await startStore('gcs');
    const image = readFileSync(await images.as('raw.gz'));
    await putGcsObject(store, { bucket: 'images', name: 'disk.raw.gz' }, image);
    const tokens = new Set<string>();
    const { url } = await serve(startGcsServer({ store, tokens }));
    const tokenServer = await serve(startTokenServer({ email: EMAIL, publicKey, tokens }));
    await createSecret('gcs-key', { 'credentials.json': serviceAccountKey(tokenServer) });
    await assertImported('from-gcs', { gcs: { url: `${url}/images/disk.raw.gz`, secretRef: 'gcs-key' } });
  });

  it('registry, by plain HTTP where the configuration lists it, with the labels of its image', async () => {
    registry = await startRegistryServer();
    const env = ['INSTANCETYPE_KUBEVIRT_IO_DEFAULT_PREFERENCE=fedora'];
    const url = `docker://${registry.host}/${await pushDisk(await images.as('qcow2'), registry.host, env)}`;
    await configure({ insecureRegistries: [registry.host] });
    try {
      await assertImported('from-registry', { registry: { url } });
    } finally {
      await configure({ insecureRegistries: null });
    }
    const claim = await world.claim(namespace, 'from-registry');
    assert.equal(claim?.metadata?.labels?.['instancetype.kubevirt.io/default-preference'], 'fedora');
  });

  it('an archive, unpacked into the volume and without a disk', async () => {
    const archive = join(images.directory, 'files.tar.gz');
    execFileSync('tar', ['-czf', archive, '-C', images.directory, 'disk.raw']);
    const { url } = await serve(startFileServer({ path: archive }));
    await world.createImport(namespace, 'unpacked', { url }, { contentType: 'archive' });
    await world.awaitPhase(namespace, 'unpacked', 'Succeeded', 90_000);
    const disk = await world.diskOf(namespace, 'unpacked');
    assert.ok(!existsSync(disk));
    assert.ok(readFileSync(join(dirname(disk), 'disk.raw')).equals(readFileSync(images.raw)));
  });

  it('through the proxy of the configuration, which alone knows the name', async () => {
    const server = await serve(startFileServer({ path: await images.as('qcow2') }));
    const { port } = new URL(server.url);
    const route = (host: string): number | undefined => (host === 'images.test' ? Number(port) : undefined);
    const proxy = await serve(startProxyServer({ route }));
    await configure({ importProxy: { HTTPProxy: proxy.url } });
    try {
      await assertImported('proxied', { http: { url: 'http://images.test/disk.qcow2' } });
    } finally {
      await configure({ importProxy: null });
    }
    assert.ok(proxy.proxied.length > 0);
  });
});
