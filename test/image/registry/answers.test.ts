import assert from 'node:assert/strict';
import { createAuthority, createSelfSigned, startServer } from '../../support/servers/index.js';
import { PAGE } from '../../support/servers/index.js';
import { fails } from '../source/open.js';
import { digestOf, imageOf, layerOf } from './images.js';
import { startNodeRegistry } from './node-registry.js';
import { addressOf, assertDelivers, DISK, useBench } from './open.js';

const NAME = 'team/disk:v1';

describe('answers of a registry', () => {
  const bench = useBench();
  const answering = async (status: number, headers = {}, wanted = /manifests/u) =>
    await bench.serve(
      startNodeRegistry(
        {},
        {
          before: ({ url = '' }, response) =>
            wanted.test(url) && (response.writeHead(status, headers).end(PAGE), true),
        },
      ),
    );

  for (const [status, type, message] of [
    [404, 'SourceNotFound', /^GET docker:\S+\/team\/disk:v1: 404 Not Found$/u],
    [401, 'SourceForbidden', /401 Unauthorized$/u],
    [403, 'SourceForbidden', /403 Forbidden$/u],
    [429, 'SourceUnavailable', /429 Too Many Requests$/u],
    [500, 'SourceUnavailable', /500 Internal Server Error$/u],
    [503, 'SourceUnavailable', /503 Service Unavailable$/u],
  ] as const)
    it(`${status} is ${type}`, async () => {
      const server = await answering(status);
      await fails((await bench.open(addressOf(server))).source.probe(), type, message);
      const silent = await answering(status, {}, /^/u);
      if (status !== 401) await fails((await bench.open(addressOf(silent))).source.probe(), type, message);
    });

  it('429 hands on how long to wait', async () => {
    const server = await answering(429, { 'retry-after': '120' });
    const error = await fails(
      (await bench.open(addressOf(server))).source.probe(),
      'SourceUnavailable',
      /429/u,
    );
    assert.equal((error as { nextRetryDelay?: unknown }).nextRetryDelay, 120_000);
  });

  it('that fail in passing are asked for again', async () => {
    let failures = 0;
    const image = imageOf([await layerOf([{ name: 'disk/a', content: DISK }])]);
    const server = await bench.serve(
      startNodeRegistry(
        { [NAME]: image },
        {
          before: (_, response) => failures++ % 2 === 0 && (response.writeHead(503).end(), true),
        },
      ),
    );
    const { source, notices } = await bench.open(addressOf(server));
    await assertDelivers(source);
    assert.match(notices.join('\n'), /503 Service Unavailable/u);
  });

  it('nobody: connection refused is SourceUnavailable, and a name that is none too', async () => {
    const server = await answering(200);
    await server.close();
    const { source } = await bench.open(addressOf(server), { insecure: false });
    await fails(source.probe(), 'SourceUnavailable', /connection refused/u);
    server.close = () => Promise.resolve();
  });

  it('a missing blob is SourceNotFound, by its digest', async () => {
    const layer = await layerOf([{ name: 'disk/a', content: DISK }]);
    const server = await bench.serve(
      startNodeRegistry(
        { [NAME]: imageOf([layer]) },
        {
          before: ({ url = '' }, response) =>
            url.endsWith(digestOf(layer.blob)) && (response.writeHead(404).end(PAGE), true),
        },
      ),
    );
    await fails(
      (await bench.open(addressOf(server))).source.probe(),
      'SourceNotFound',
      new RegExp(`^GET docker:\\S+/team/disk@${digestOf(layer.blob)}: 404 Not Found$`, 'u'),
    );
  });

  it('are not asked for at a refused address', async () => {
    const server = await answering(200);
    const { source } = await bench.open(addressOf(server), {}, { policy: { allowed: [], denied: [] } });
    await fails(source.probe(), 'SourceNotAllowed', /^connections to 127\.0\.0\.1 are refused/u);
    assert.equal(server.connections(), 0);
  });

  it('end with a cancel, by its reason', async () => {
    const server = await bench.serve(startServer(() => undefined));
    const { source, abort } = await bench.open(addressOf(server));
    const probing = source.probe();
    while (server.requests().length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const reason = new Error('cancelled by the test');
    abort.abort(reason);
    await assert.rejects(probing, (error) => error === reason);
    await assert.rejects(source.probe(), (error) => error === reason);
  });

  describe('with TLS', () => {
    const image = async () => imageOf([await layerOf([{ name: 'disk/a', content: DISK }])]);
    const policy = { allowed: ['127.0.0.0/8', '::1/128'], denied: [] };

    it('from a registry with a certificate that nobody knows are refused, unless it is insecure', async () => {
      const tls = await createSelfSigned(['localhost']);
      const server = await bench.serve(startNodeRegistry({ [NAME]: await image() }, {}, { tls }));
      const url = `docker://localhost:${server.port}/${NAME}`;
      const { source } = await bench.open(url, { insecure: false }, { policy });
      await fails(source.probe(), 'SourceCertificateInvalid', /server certificate is not valid/u);
      assert.equal(server.requests().length, 0);
      await assertDelivers((await bench.open(url, { insecure: true }, { policy })).source);
    });

    it('are believed by the CA of the request', async () => {
      const authority = await createAuthority();
      const tls = await authority.issue(['localhost']);
      const server = await bench.serve(startNodeRegistry({ [NAME]: await image() }, {}, { tls }));
      const url = `docker://localhost:${server.port}/${NAME}`;
      await assertDelivers((await bench.open(url, { insecure: false, ca: authority.ca }, { policy })).source);
    });

    it('are not given up for plain HTTP, unless the registry is insecure', async () => {
      const server = await bench.serve(startNodeRegistry({ [NAME]: await image() }));
      const { source } = await bench.open(addressOf(server), { insecure: false });
      await fails(source.probe(), 'SourceUnavailable', /EPROTO|server does not speak TLS/u);
      assert.equal(server.requests().length, 0);
    });
  });
});
