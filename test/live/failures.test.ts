import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FailureType } from '../../activities/types.js';
import { useStack } from '../support/stack.js';
import {
  startFileServer,
  startStatusServer,
  startTlsServer,
  type RunningServer,
} from '../support/servers/index.js';
import { makeImages, withBacking, type Images } from './images.js';
import { recordHistory } from './record.js';
import { createWorld, eventually, type World } from './world.js';

/** A fact that no retry cures must show within this time, beside two other test processes; what is retried fails after four minutes. */
const KNOWABLE_MS = 30_000;

interface Case {
  readonly title: string;
  readonly type: FailureType;
  readonly message: RegExp;
  readonly http: () => Promise<object>;
  readonly spec?: object;
}

describe('failures that no retry cures', function () {
  this.timeout(120_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let namespace: string;
  let inventory: readonly string[];
  const servers: RunningServer[] = [];

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 16, dataMiB: 8 });
    namespace = await world.createNamespace('failures');
    await world.core.createNamespacedSecret({
      namespace,
      body: {
        metadata: { name: 'wrong' },
        stringData: { accessKeyId: 'nobody', secretKey: 'hidden-password' },
      },
    });
    inventory = await world.inventory();
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.close()));
    await images.remove();
  });

  async function served(server: Promise<RunningServer>): Promise<RunningServer> {
    const running = await server;
    servers.push(running);
    return running;
  }
  const file = async (path: string, options: object = {}) => ({
    url: (await served(startFileServer({ path, ...options }))).url,
  });
  const status = async (code: number) => ({ url: (await served(startStatusServer(code))).url });

  async function bytes(name: string, content: Buffer | string): Promise<string> {
    const path = join(images.directory, name);
    await writeFile(path, content);
    return path;
  }

  const cases: readonly Case[] = [
    { title: '404', type: 'SourceNotFound', message: /404/, http: () => status(404) },
    { title: '401', type: 'SourceForbidden', message: /401/, http: () => status(401) },
    {
      title: '403',
      type: 'SourceForbidden',
      message: /403/,
      http: async () => ({ ...(await status(403)), secretRef: 'wrong' }),
    },
    {
      title: 'a certificate nobody vouches for',
      type: 'SourceCertificateInvalid',
      message: /certificate/i,
      http: async () => ({ url: (await served(startTlsServer({ path: images.raw }))).url }),
    },
    {
      title: 'a checksum of other bytes',
      type: 'ChecksumMismatch',
      message: /expected sha256:0{64}, calculated sha256:[0-9a-f]{64}/,
      http: async () => ({ ...(await file(images.raw)), checksum: `sha256:${'0'.repeat(64)}` }),
    },
    {
      title: 'an image larger than the claim',
      type: 'LargerPVCRequired',
      message: /image needs 16777216 bytes.*ask for at least \d+/,
      http: async () => file(await images.as('qcow2')),
      spec: {
        storage: { resources: { requests: { storage: '8Mi' } }, storageClassName: 'hostpath-provisioner' },
      },
    },
    {
      title: 'a compressed raw image larger than the claim, learnt on the way',
      type: 'LargerPVCRequired',
      message: /bytes/,
      http: async () => file(await images.as('raw.gz')),
      spec: {
        storage: { resources: { requests: { storage: '8Mi' } }, storageClassName: 'hostpath-provisioner' },
      },
    },
    {
      title: 'a web page',
      type: 'ImageInvalid',
      message: /HTML/i,
      http: async () => file(await bytes('page.html', '<!DOCTYPE html><html>sign in</html>'.padEnd(2048))),
    },
    {
      title: 'a VMDK',
      type: 'UnsupportedFormat',
      message: /VMDK/i,
      http: async () =>
        file(await bytes('disk.vmdk', Buffer.concat([Buffer.from('KDMV'), Buffer.alloc(65_536)]))),
    },
    {
      title: 'a qcow2 with a backing file',
      type: 'ImageHostile',
      message: /backing file/i,
      http: async () => file(await bytes('backed.qcow2', await withBacking(images))),
    },
    {
      title: 'an unknown StorageClass',
      type: 'StorageClassNotFound',
      message: /nowhere/,
      http: () => file(images.raw),
      spec: { storage: { resources: { requests: { storage: '64Mi' } }, storageClassName: 'nowhere' } },
    },
    {
      title: 'a Block volume',
      type: 'IncompatiblePVC',
      message: /Block/,
      http: () => file(images.raw),
      spec: {
        storage: {
          volumeMode: 'Block',
          resources: { requests: { storage: '64Mi' } },
          storageClassName: 'hostpath-provisioner',
        },
      },
    },
  ];

  for (const { title, type, message, http, spec } of cases) {
    it(`${title}: ${type} within ${KNOWABLE_MS / 1000} s, and nothing is left`, async () => {
      const name = title
        .toLowerCase()
        .replace(/[^a-z0-9]+/g, '-')
        .slice(0, 40);
      const made = await world.createImport(namespace, name, await http(), spec);
      const failed = await world.awaitPhase(namespace, name, 'Failed', KNOWABLE_MS);
      const running = failed.status?.conditions?.find((condition) => condition.type === 'Running');
      assert.equal(running?.reason, type, running?.message);
      assert.match(running?.message ?? '', message);
      assert.doesNotMatch(JSON.stringify(failed), /hidden-password/);
      // it follows the status, which tells that it will come
      await eventually('the event', 30_000, async () => {
        const events = await world.events(namespace, name);
        const warned = events.some((event) => event.type === 'Warning' && event.reason === type);
        return warned ? true : undefined;
      });
      await world.assertUnchanged(inventory);
      if (title === '404')
        await recordHistory(stack, workflowId(namespace, name, made.metadata.uid), 'importDataVolume.failed');
      if (title.startsWith('a checksum'))
        await recordHistory(
          stack,
          workflowId(namespace, name, made.metadata.uid),
          'importDataVolume.failed.checksum',
        );
    });
  }

  for (const [kind, source] of Object.entries({
    imageio: { imageio: { url: 'http://127.0.0.1', diskId: '1', secretRef: 's', certConfigMap: 'c' } },
    vddk: {
      vddk: { url: 'http://127.0.0.1', uuid: 'u', backingFile: 'b', thumbprint: 't', secretRef: 's' },
    },
  })) {
    it(`source ${kind}: UnsupportedSource`, async () => {
      await world.createImport(namespace, `source-${kind}`, {}, { source });
      const failed = await world.awaitPhase(namespace, `source-${kind}`, 'Failed', KNOWABLE_MS);
      assert.equal(
        failed.status?.conditions?.find(({ type }) => type === 'Running')?.reason,
        'UnsupportedSource',
      );
    });
  }
});

function workflowId(namespace: string, name: string, uid: string): string {
  return `datavolume/${namespace}/${name}/${uid}`;
}
