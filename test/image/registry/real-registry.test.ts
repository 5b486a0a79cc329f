import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import assert from 'node:assert/strict';
import { openSource } from '../../../activities/image/source/open-source.js';
import { createAuthority } from '../../support/servers/index.js';
import {
  startRegistryServer,
  useRegistryProgram,
  type RegistryServer,
} from '../../support/servers/registry-server.js';
import { collect, fails } from '../source/open.js';
import { digestOf, imageOf, indexOf, layerOf, writeLayout, type Image } from './images.js';
import { addressOf, assertDelivers, useBench } from './open.js';

const run = promisify(execFile);
const skopeo = async (...args: string[]): Promise<string> =>
  (await run('skopeo', ['--insecure-policy', ...args], { maxBuffer: 2 ** 24 })).stdout;

describe('images that skopeo pushed to the registry of crane', () => {
  useRegistryProgram();
  const bench = useBench();
  const directory = mkdtempSync(join(tmpdir(), 'dvflow-registry-'));
  const names = { layout: 0 };
  let disk: Buffer;
  let server: RegistryServer;

  before(async () => {
    const path = join(directory, 'disk.qcow2');
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, '64M']);
    await run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 1M 5M', path]);
    disk = readFileSync(path);
    server = await startRegistryServer();
  });
  after(async () => {
    await server?.end();
    rmSync(directory, { recursive: true });
  });

  const imageFor = async (content: Buffer, architecture = 'amd64', compression: 'gz' | 'zst' = 'gz') =>
    imageOf(
      [
        await layerOf(
          [
            { name: 'disk/', type: 'directory' },
            { name: 'disk/disk.qcow2', content },
          ],
          compression,
        ),
        await layerOf([{ name: 'etc/motd', content: 'hello' }]),
      ],
      { architecture, env: ['INSTANCETYPE_KUBEVIRT_IO_DEFAULT_PREFERENCE=fedora'] },
    );

  async function push(image: Image, to: { readonly host: string }, ...flags: string[]): Promise<string> {
    const layout = join(directory, `layout-${(names.layout += 1)}`);
    writeLayout(layout, image, 'v1');
    const name = `team/disk-${names.layout}:v1`;
    await skopeo('copy', '-q', ...flags, `oci:${layout}:v1`, `docker://${to.host}/${name}`);
    return name;
  }
  const PLAIN = ['--dest-tls-verify=false'];

  for (const format of ['oci', 'v2s2'])
    it(`are delivered byte for byte (${format})`, async () => {
      const name = await push(await imageFor(disk), server, ...PLAIN, '--format', format);
      const { source } = await bench.open(addressOf(server, name));
      await assertDelivers(source, disk);
      assert.deepEqual(await source.labels(), { 'instancetype.kubevirt.io/default-preference': 'fedora' });
      const inspected = JSON.parse(
        await skopeo('inspect', '--tls-verify=false', `docker://${server.host}/${name}`),
      ) as { Digest: string; Layers: string[] };
      assert.equal((await source.probe()).validators.etag, `"${inspected.Layers[0]}"`);
      const byDigest = name.replace(/:v1$/u, `@${inspected.Digest}`);
      await assertDelivers((await bench.open(addressOf(server, byDigest))).source, disk);
    });

  it('are delivered out of zstd layers', async () => {
    const image = await imageFor(disk, 'amd64', 'zst');
    const { source } = await bench.open(addressOf(server, await push(image, server, ...PLAIN)));
    await assertDelivers(source, disk);
    assert.deepEqual(source.containers, ['oci', 'zst', 'tar']);
  });

  it('are chosen by architecture', async () => {
    const others = { amd64: disk, arm64: Buffer.alloc(9999, 'arm'), s390x: Buffer.alloc(7777, 'z') };
    const images = await Promise.all(
      Object.entries(others).map(([architecture, content]) => imageFor(content, architecture)),
    );
    const name = await push(indexOf(images), server, ...PLAIN, '--all');
    for (const [architecture, content] of Object.entries(others))
      await assertDelivers((await bench.open(addressOf(server, name), { architecture })).source, content);
    const { source } = await bench.open(addressOf(server, name), { architecture: 'riscv64' });
    await fails(source.probe(), 'SourceNotFound', /linux\/amd64, linux\/arm64, linux\/s390x$/u);
  });

  it('are SourceNotFound under another tag or name', async () => {
    const name = await push(await imageFor(disk), server, ...PLAIN);
    for (const wrong of [name.replace(/v1$/u, 'v2'), 'team/nothing:v1'])
      await fails(
        (await bench.open(addressOf(server, wrong))).source.probe(),
        'SourceNotFound',
        /404 Not Found$/u,
      );
  });

  it('are opened by openSource', async () => {
    const name = await push(await imageFor(disk), server, ...PLAIN);
    const source = await openSource(
      { kind: 'registry', url: addressOf(server, name), insecure: true },
      { policy: { allowed: ['127.0.0.0/8'], denied: [] }, signal: new AbortController().signal },
    );
    try {
      const hash = createHash('sha256').update(await collect(source.stream(0)));
      assert.equal(`sha256:${hash.digest('hex')}`, digestOf(disk));
    } finally {
      source.close();
    }
  });

  it('are delivered over TLS by the CA of the request, and without it only by an insecure registry', async () => {
    const authority = await createAuthority();
    const { cert, key } = await authority.issue(['localhost']);
    const certificates = join(directory, 'certificates');
    mkdirSync(certificates);
    writeFileSync(join(certificates, 'ca.crt'), authority.ca);
    writeFileSync(join(directory, 'tls.crt'), cert);
    writeFileSync(join(directory, 'tls.key'), key);
    const secure = await startRegistryServer({
      cert: join(directory, 'tls.crt'),
      key: join(directory, 'tls.key'),
    });
    try {
      const host = `localhost:${secure.port}`;
      const name = await push(await imageFor(disk), { host }, '--dest-cert-dir', certificates);
      const policy = { allowed: ['127.0.0.0/8', '::1/128'], denied: [] };
      const url = `docker://${host}/${name}`;
      await assertDelivers(
        (await bench.open(url, { insecure: false, ca: authority.ca }, { policy })).source,
        disk,
      );
      await assertDelivers((await bench.open(url, { insecure: true }, { policy })).source, disk);
      const { source } = await bench.open(url, { insecure: false }, { policy });
      await fails(source.probe(), 'SourceCertificateInvalid', /server certificate is not valid/u);
    } finally {
      await secure.end();
    }
  });
});
