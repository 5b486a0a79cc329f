import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { text } from 'node:stream/consumers';
import { connect } from 'node:tls';
import { readTlsFiles } from '../../activities/data-port/tls.js';
import type { DataPortResource } from '../../activities/types/data-port.js';
import { startDataPort, type ServedDataPort } from '../../workers/data-port/server.js';
import { ensureCertificateDirectory, peerDirectory } from '../../workers/pki/directory.js';
import { clientOptions, makeCertificates, send } from './data-port-client.js';

const logger = { info: () => undefined, warn: () => undefined, debug: () => undefined };
const ADDRESS = { host: '127.0.0.1', port: 0 };
const UPLOAD = { kind: 'upload', uid: '7f9c2ba4-e88f-427d-a616-4d05f35d9a6e' } as const;

/** A resource that answers with what it was sent. */
function echo(more: Partial<DataPortResource> = {}): DataPortResource {
  return {
    ...UPLOAD,
    peers: ['dvflow-gateway'],
    async handle(request, response) {
      response.end(`${request.method} ${await text(request)}`);
    },
    ...more,
  };
}

/** What works in the end, tried ten times a second for ten seconds. */
async function eventually<T>(attempt: () => T): Promise<T> {
  for (let tries = 0; ; tries += 1) {
    try {
      return attempt();
    } catch (error) {
      if (tries === 100) throw error;
      await pause(100);
    }
  }
}

describe('data port', function () {
  this.timeout(20_000);
  let certificates: Awaited<ReturnType<typeof makeCertificates>>;
  let port: ServedDataPort;

  before(async () => {
    certificates = await makeCertificates();
  });
  after(() => certificates[Symbol.dispose]());
  beforeEach(async () => {
    const tlsDirectory = peerDirectory(certificates.directory, 'dvflow-node');
    port = await startDataPort({ address: ADDRESS, tlsDirectory, logger, patienceMs: 300 });
  });
  afterEach(async () => await port.close());

  const gateway = () => clientOptions(certificates.directory, 'dvflow-gateway');

  it('serves what is open, to the peers that it names, until it is closed', async () => {
    const open = port.open(echo());
    const answer = await send(open.url, { ...gateway(), method: 'PUT' }, Buffer.from('a disk'));
    assert.deepEqual([answer.status, answer.text], [200, 'PUT a disk']);
    const other = clientOptions(certificates.directory, 'dvflow-node');
    const refused = await send(open.url, { ...other, method: 'PUT' }, Buffer.from('a disk'));
    assert.equal(refused.status, 403);
    assert.match(refused.text, /"type":"NotAuthorized"/);
    open[Symbol.dispose]();
    const closed = await send(open.url, gateway());
    assert.equal(closed.status, 503);
    assert.match(closed.text, /"type":"NodeUnavailable".*"retryable":true/);
  });

  it('lets nobody in without a certificate, or with one of another authority', async () => {
    const open = port.open(echo());
    const { ca, servername } = gateway();
    const nobody = send(open.url, { servername, ...(ca ? { ca } : {}), agent: false });
    await assert.rejects(nobody);
    using others = await makeCertificates();
    const { cert, key } = clientOptions(others.directory, 'dvflow-gateway');
    const stranger = send(open.url, { ...gateway(), ...(cert ? { cert } : {}), ...(key ? { key } : {}) });
    await assert.rejects(stranger);
    // and a client knows a stranger's port by its name and authority
    const otherPort = await startDataPort({
      address: ADDRESS,
      tlsDirectory: peerDirectory(others.directory, 'dvflow-node'),
      logger,
    });
    const elsewhere = otherPort.open(echo());
    await assert.rejects(send(elsewhere.url, gateway()), /certificate|authority|issuer/i);
    await otherPort.close();
  });

  it('does not take the certificate of the gateway for that of a node', async () => {
    const tlsDirectory = peerDirectory(certificates.directory, 'dvflow-gateway');
    const wrong = await startDataPort({ address: ADDRESS, tlsDirectory, logger });
    const open = wrong.open(echo());
    await assert.rejects(send(open.url, gateway()), /altnames|purpose/i);
    await wrong.close();
  });

  it('makes a request wait until its resource is open, unread', async () => {
    const url = port.urlOf(UPLOAD);
    const waiting = send(url, { ...gateway(), method: 'PUT' }, Buffer.alloc(3_000_000, 'x'));
    await pause(100);
    using _ = port.open(
      echo({
        async handle(request, response) {
          response.end(
            createHash('sha256')
              .update(await text(request))
              .digest('hex'),
          );
        },
      }),
    );
    const wanted = createHash('sha256').update(Buffer.alloc(3_000_000, 'x')).digest('hex');
    assert.equal((await waiting).text, wanted);
  });

  it('answers paths that are none, and failures of a resource by their type', async () => {
    const url = port.urlOf(UPLOAD);
    for (const path of ['/', '/upload', '/upload/a/b', '/other/x', '/upload/%2e%2e%2fx', '/upload/%']) {
      const answer = await send(new URL(path, url).href, gateway());
      assert.equal(answer.status, 404, path);
    }
    using _ = port.open(echo({ handle: () => Promise.reject(new Error('secret detail')) }));
    const failed = await send(url, gateway());
    assert.equal(failed.status, 503);
    assert.match(failed.text, /"message":"Error"/);
    assert.doesNotMatch(failed.text, /secret/);
  });

  it('closes the connection after its answer where a client wants that, whether its body was read or not', async () => {
    const refuse = (): Promise<never> => Promise.reject(new Error('no'));
    for (const resource of [echo(), echo({ handle: refuse })]) {
      using _ = port.open(resource);
      const url = new URL(port.urlOf(UPLOAD));
      const { ca, cert, key, servername } = gateway();
      const socket = connect({ host: url.hostname, port: Number(url.port), ca, cert, key, servername });
      socket.write(
        `PUT ${url.pathname} HTTP/1.1\r\nHost: node\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody`,
      );
      const began = Date.now();
      assert.match(await text(socket), /^HTTP\/1.1 (?:200[^]*PUT body|503)/);
      assert.ok(Date.now() - began < 3_000, 'it was kept');
    }
  });

  it('serves with a renewed certificate without a restart, and clients of before are still known', async () => {
    const tlsDirectory = peerDirectory(certificates.directory, 'dvflow-node');
    const before = readTlsFiles(tlsDirectory);
    const open = port.open(echo());
    // an authority that is gone is made anew, and every leaf with it
    const oldClient = gateway();
    rmSync(join(certificates.directory, 'authority'), { recursive: true });
    await ensureCertificateDirectory(certificates.directory);
    const renewed = readTlsFiles(tlsDirectory);
    assert.notEqual(renewed.cert, before.cert);
    const serial = new X509Certificate(renewed.cert).serialNumber;
    let served = '';
    for (let attempt = 0; attempt < 100 && served !== serial; attempt += 1) {
      await pause(100);
      served = await new Promise((resolve, reject) => {
        import('node:tls').then(({ connect }) => {
          const { hostname: host, port: number } = new URL(open.url);
          const options = { host, port: Number(number), ...(gateway() as object), rejectUnauthorized: false };
          const socket = connect(options, () => {
            resolve(socket.getPeerX509Certificate()?.serialNumber ?? '');
            socket.destroy();
          });
          socket.on('error', reject);
        }, reject);
      });
    }
    assert.equal(served, serial);
    const answer = await send(open.url, gateway());
    assert.equal(answer.status, 200);
    // its certificate is of the old authority, which is still trusted; it does not know the new one
    const old = await send(open.url, { ...oldClient, ...(gateway().ca ? { ca: gateway().ca } : {}) });
    assert.equal(old.status, 200);
  });

  it('says that it is not served where it has no certificates, and begins when they come', async () => {
    const directory = join(tmpdir(), `dvflow-later-${process.pid}`);
    const tlsDirectory = peerDirectory(directory, 'dvflow-node');
    const late = await startDataPort({ address: ADDRESS, tlsDirectory, logger });
    assert.throws(() => late.open(echo()), { type: 'NodeUnavailable' });
    await ensureCertificateDirectory(directory);
    const open = await eventually(() => late.open(echo()));
    const client = clientOptions(directory, 'dvflow-gateway');
    assert.equal((await send(open.url, client)).status, 200);
    await late.close();
    const nowhere = await startDataPort({ tlsDirectory, logger });
    assert.throws(() => nowhere.urlOf(UPLOAD), { type: 'NodeUnavailable' });
    await nowhere.close();
    rmSync(directory, { recursive: true, force: true });
  });

  it('tells an address that is taken', async () => {
    const { port: taken } = new URL(port.urlOf(UPLOAD));
    const tlsDirectory = peerDirectory(certificates.directory, 'dvflow-node');
    const address = { host: '127.0.0.1', port: Number(taken) };
    await assert.rejects(startDataPort({ address, tlsDirectory, logger }), /EADDRINUSE/);
  });
});
