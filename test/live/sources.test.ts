import assert from 'node:assert/strict';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { useStack } from '../support/stack.js';
import {
  createAuthority,
  startFileServer,
  type FileServer,
  type FileServerOptions,
} from '../support/servers/index.js';
import { makeImages, type Images } from './images.js';
import { assertSameDisk, createWorld, eventually, type World } from './world.js';

const MiB = 1 << 20;

describe('servers as they are', function () {
  this.timeout(180_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let namespace: string;
  const servers: FileServer[] = [];

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 48, dataMiB: 24 });
    namespace = await world.createNamespace('servers');
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.close()));
    await images.remove();
  });

  async function serve(form: string, options: Omit<FileServerOptions, 'path'>): Promise<FileServer> {
    const server = await startFileServer({ path: await images.as(form), ...options });
    servers.push(server);
    return server;
  }

  const cases: readonly [string, string, Omit<FileServerOptions, 'path'>][] = [
    ['without ranges', 'qcow2', { ranges: false }],
    ['without ranges, raw', 'raw', { ranges: false }],
    ['without HEAD', 'qcow2', { head: false }],
    ['that drops the connection every 5 MB', 'raw', { dropEvery: 5 * MiB }],
    ['that drops the connection every 5 MB, qcow2', 'qcow2', { dropEvery: 5 * MiB }],
    ['that drops the connection every 5 MB, in xz', 'raw.xz', { dropEvery: 5 * MiB }],
    ['that answers 503 three times', 'qcow2', { failFirst: 3 }],
  ];
  for (const [title, form, options] of cases) {
    it(`a server ${title}`, async () => {
      const server = await serve(form, options);
      const name = title
        .toLowerCase()
        .replace(/[^a-z0-9]+/g, '-')
        .slice(0, 40)
        .replace(/-$/, '');
      await world.createImport(namespace, name, { url: server.url });
      await world.awaitPhase(namespace, name, 'Succeeded', 90_000);
      await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, name));
    });
  }

  it('whose image changes half-way: from zero, said, and right in the end', async () => {
    const server = await serve('raw', { bytesPerSecond: 8 * MiB });
    await world.createImport(namespace, 'changes', { url: server.url });
    await eventually('bytes', 60_000, async () => (server.bytesSent() > 8 * MiB ? true : undefined));
    server.setEtag('"second"');
    server.dropConnections();
    server.setRate(undefined);
    await world.awaitPhase(namespace, 'changes', 'Succeeded', 90_000);
    await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, 'changes'));
  });

  it("with a certificate of the user's own authority (certConfigMap), and one that nobody is to check", async () => {
    const authority = await createAuthority();
    const secured = await serve('qcow2', { tls: await authority.issue(['localhost', '127.0.0.1']) });
    const body = { metadata: { name: 'authority' }, data: { 'ca.pem': authority.ca } };
    await world.core.createNamespacedConfigMap({ namespace, body });
    await world.createImport(namespace, 'own-ca', { url: secured.url, certConfigMap: 'authority' });
    await world.createImport(namespace, 'unchecked', { url: secured.url, insecureSkipVerify: true });
    for (const name of ['own-ca', 'unchecked']) {
      await world.awaitPhase(namespace, name, 'Succeeded', 60_000);
      await assertSameDisk(images.raw, 'raw', await world.diskOf(namespace, name));
    }
  });

  it('sends credentials and secret headers to the origin that the user named only', async () => {
    const target = await serve('qcow2', {});
    const origin = await serve('qcow2', { redirectTo: target.url });
    await world.core.createNamespacedSecret({
      namespace,
      body: { metadata: { name: 'login' }, stringData: { accessKeyId: 'me', secretKey: 'pass-word' } },
    });
    await world.core.createNamespacedSecret({
      namespace,
      body: { metadata: { name: 'header' }, stringData: { token: 'X-Token: sesame\n' } },
    });
    const http = {
      url: origin.url,
      secretRef: 'login',
      secretExtraHeaders: ['header'],
      extraHeaders: ['X-Plain: yes'],
    };
    await world.createImport(namespace, 'redirected', http);
    await world.awaitPhase(namespace, 'redirected', 'Succeeded');
    const [asked] = origin.requests();
    assert.equal(asked?.headers.authorization, `Basic ${Buffer.from('me:pass-word').toString('base64')}`);
    assert.equal(asked?.headers['x-token'], 'sesame');
    for (const { headers } of target.requests()) {
      assert.equal(headers.authorization, undefined);
      assert.equal(headers['x-token'], undefined);
    }
    const { workflowId } = await runOf('redirected');
    const history = historyToJSON(await stack.temporal.workflow.getHandle(workflowId).fetchHistory());
    // Payloads are base64 in JSON: both the text and what it decodes to.
    const decoded = [...history.matchAll(/"data": ?"([^"]+)"/g)].map(([, data]) =>
      Buffer.from(data!, 'base64').toString(),
    );
    assert.ok(
      decoded.some((text) => text.includes('redirected')),
      'no payload was decoded',
    );
    assert.doesNotMatch([history, ...decoded].join('\n'), /pass-word|sesame/);
  });

  async function runOf(name: string): Promise<{ workflowId: string }> {
    const found = await world.read(namespace, name);
    return { workflowId: `datavolume/${namespace}/${name}/${found?.metadata.uid}` };
  }
});
