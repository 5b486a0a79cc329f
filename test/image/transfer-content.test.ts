import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { childEnvironment } from '../../activities/image/child-environment.js';
import type { S3Request, SourceRequest } from '../../activities/image/source/types.js';
import { startGoServer, useGoProgram, type GoServer } from '../support/servers/go-servers.js';
import { putObject, startS3Server } from '../support/servers/s3-server.js';
import { imageOf, indexOf, layerOf } from './registry/images.js';
import { startNodeRegistry } from './registry/node-registry.js';
import { useBench } from './source/open.js';
import { makeRaw, MIB, qemuImg, sha256, useDirectory } from './support/images.js';
import { serveFile } from './support/serve.js';
import { refusal } from './support/refused.js';
import { moversOf, reserve, until, USER } from './support/transfer.js';

describe('transferImage of an archive', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  let tar = '';
  let files = '';
  before(() => {
    files = `${directory()}/files`;
    mkdirSync(`${files}/deep/er`, { recursive: true });
    writeFileSync(`${files}/deep/er/script`, '#!/bin/sh\n', { mode: 0o755 });
    makeRaw(`${files}/noise`, 8 * MIB);
    symlinkSync('deep/er/script', `${files}/link`);
    tar = `${directory()}/files.tar.gz`;
    execFileSync('tar', ['-czf', tar, '-C', files, '.']);
  });
  const archive = { contentType: 'archive' } as const;

  it('unpacks it into the volume, as user 107 and without a disk.img, as the verification wants it', async () => {
    await using server = await serveFile(tar);
    const { node, input, volume, start } = await reserve(directory(), server, 20 * MIB, {}, archive);
    const transferred = await start().done;
    assert.equal(transferred.format, 'tar');
    assert.ok(transferred.bytesWritten >= 8 * MIB - 4096);
    await node.verifyImage({ directory: input.target, transferred, contentType: 'archive' });
    assert.deepEqual(readdirSync(volume).toSorted(), ['deep', 'link', 'noise']);
    execFileSync('diff', ['--recursive', '--no-dereference', files, volume]);
    assert.equal(statSync(`${volume}/deep/er/script`).mode & 0o7777, 0o755);
    if (USER) assert.equal(statSync(`${volume}/deep/er/script`).uid, USER.uid);
    await node.removeDirectory({ directory: input.target });
    assert.ok(!existsSync(volume));
  });

  it('begins anew after a process was killed, and leaves nothing of what was there', async () => {
    await using server = await serveFile(tar);
    server.rate = 2 * MIB;
    const { volume, start } = await reserve(directory(), server, 20 * MIB, {}, archive);
    const attempt = start();
    await until(attempt.done, () => existsSync(`${volume}/noise`));
    for (const pid of moversOf(volume)) process.kill(pid, 'SIGKILL');
    await assert.rejects(attempt.done, refusal('NodeUnavailable', /was killed/, false));
    writeFileSync(`${volume}/stray`, 'of an earlier attempt');
    server.rate = Infinity;
    const result = await start(2).done;
    assert.equal(result.resumedFrom, 0);
    assert.deepEqual(readdirSync(volume).toSorted(), ['deep', 'link', 'noise']);
  });

  it('refuses one that is larger than the claim, and a disk image', async () => {
    await using server = await serveFile(tar);
    const small = await reserve(directory(), server, MIB, {}, archive);
    await assert.rejects(small.start().done, refusal('LargerPVCRequired', /needs at least \d+ bytes/, true));
    const qcow2 = `${directory()}/disk.qcow2`;
    qemuImg('create', '-f', 'qcow2', qcow2, '1M');
    await using other = await serveFile(qcow2);
    const wrong = await reserve(directory(), other, 20 * MIB, {}, archive);
    await assert.rejects(
      wrong.start().done,
      refusal('ContentTypeNotSupported', /contentType is archive, but source is qcow2/, true),
    );
    assert.deepEqual(readdirSync(wrong.volume), []);
  });

  it('is not believed to be complete where the record does not say so', async () => {
    await using server = await serveFile(tar);
    const { node, input, start } = await reserve(directory(), server, 20 * MIB, {}, archive);
    const transferred = await start().done;
    const other = { ...transferred, bytesWritten: transferred.bytesWritten + 1 };
    await assert.rejects(
      node.verifyImage({ directory: input.target, transferred: other, contentType: 'archive' }),
      refusal('ImageInvalid', /does not say that the transfer is complete/, true),
    );
  });
});

describe('transferImage', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const requests: readonly SourceRequest[] = [
    { kind: 'file', path: '/etc/hostname' },
    { kind: 'registry', url: 'oci-archive:/etc/hostname', insecure: false },
  ];
  for (const request of requests) {
    it(`reads no file of its node: ${request.kind}`, async () => {
      const readRequest = () => Promise.resolve(request);
      const { disk, start } = await reserve(directory(), { url: '' }, MIB, {}, { readRequest });
      await assert.rejects(start().done, refusal('UnsupportedSource', /only the command line reads/, true));
      assert.equal(statSync(disk).size, 0);
    });
  }
});

describe('transferImage of a container image', function () {
  this.timeout(60_000);
  const directory = useDirectory();
  const bench = useBench();

  it('takes the one that was inspected, not the one for its own machine', async () => {
    const images = ['amd64', 'arm64', 's390x', 'riscv64'].map(async (architecture) =>
      imageOf([await layerOf([{ name: 'disk/a', content: contentFor(architecture) }])], { architecture }),
    );
    const index = indexOf(await Promise.all(images));
    const server = await bench.serve(startNodeRegistry({ 'team/disk:v1': index }));
    const url = `docker://127.0.0.1:${server.port}/team/disk:v1`;
    const readRequest = () => Promise.resolve({ kind: 'registry', url, insecure: true } as const);
    const { disk, start } = await reserve(
      directory(),
      server,
      MIB,
      {},
      { readRequest, image: { architecture: 'riscv64' } },
    );
    await start().done;
    assert.ok(readFileSync(disk).subarray(0, 5000).equals(contentFor('riscv64')));
  });

  const contentFor = (architecture: string): Buffer => Buffer.alloc(5000, `disk for ${architecture}`);
});

describe('AWS credentials of a node worker', function () {
  this.timeout(60_000);
  useGoProgram();
  const directory = useDirectory();
  const outside = { ...process.env };
  let store: GoServer;
  let raw = '';
  before(async () => {
    raw = makeRaw(`${directory()}/disk.raw`, 4 * MIB);
    store = await startGoServer('s3');
    await putObject(store, '/images/disk.raw', readFileSync(raw));
  });
  after(() => store.end());
  beforeEach(() => {
    process.env['AWS_ACCESS_KEY_ID'] = 'AKIDNODE';
    process.env['AWS_SECRET_ACCESS_KEY'] = 'sesame';
    process.env['DVFLOW_SECRET'] = 'of the worker';
  });
  afterEach(() => {
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'DVFLOW_SECRET'])
      if (outside[name] === undefined) delete process.env[name];
      else process.env[name] = outside[name];
  });

  const requestFor = (url: string, more: Partial<S3Request> = {}): S3Request => ({
    kind: 's3',
    url: `${url}/images/disk.raw`,
    ...more,
  });

  it('are lent to a transfer where control and node worker say so', async () => {
    const server = await startS3Server({ store, keys: { AKIDNODE: 'sesame' } });
    try {
      const readRequest = () => Promise.resolve(requestFor(server.url, { ambient: true }));
      const lending = { readRequest, ambientCredentials: true };
      const { disk, start } = await reserve(directory(), server, 4 * MIB, {}, lending);
      await start().done;
      assert.equal(sha256(disk), sha256(raw));
      const refusing = await reserve(directory(), server, 4 * MIB, {}, { readRequest });
      await assert.rejects(
        refusing.start().done,
        refusal('SourceForbidden', /node here does not lend its AWS credentials/, true),
      );
    } finally {
      await server.close();
    }
  });

  it('are in the environment of no other process that moves bytes', () => {
    const found = (request: SourceRequest) =>
      Object.keys(childEnvironment(request)).filter((name) => /AWS|DVFLOW/u.test(name));
    assert.deepEqual(found(requestFor('http://a')), []);
    assert.deepEqual(found({ kind: 'gcs', url: 'gs://a/b' }), []);
    assert.deepEqual(found(requestFor('http://a', { ambient: true })), [
      'AWS_ACCESS_KEY_ID',
      'AWS_SECRET_ACCESS_KEY',
    ]);
  });
});
