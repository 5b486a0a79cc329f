import assert from 'node:assert/strict';
import { gzipSync } from 'node:zlib';
import { putGcsObject } from '../../support/servers/gcs-server.js';
import {
  createAuthority,
  startProxyServer,
  startServer,
  startSilentServer,
} from '../../support/servers/index.js';
import { readsAll, useGcs } from './gcs.js';
import { BYTES, collect, fails } from './open.js';

describe('a GCS source', () => {
  const gcs = useGcs();
  const { bench, tokens, serve, serveTokens, open, keyFor } = gcs;

  it('is read without credentials where everybody may, always the same generation', async () => {
    const server = await serve();
    const opened = await open(`${server.url}/images/disk.img`);
    await readsAll(opened);
    assert.equal((await opened.source.probe()).displayUrl, `${server.url}/images/disk.img`);
    const [metadata, ...bytes] = server.requests();
    assert.match(metadata?.path ?? '', /^\/storage\/v1\/b\/images\/o\/disk\.img\?fields=/u);
    assert.ok(bytes.length >= 3);
    for (const { path, headers } of bytes) {
      assert.match(path, /\?alt=media&generation=\d+$/u);
      assert.equal(headers['accept-encoding'], 'identity');
      assert.equal(headers.authorization, undefined);
    }
  });

  it('comes as it is stored when it is stored as gzip', async () => {
    const packed = gzipSync(BYTES, { level: 1 });
    const name = 'a dir/packed+%.img';
    await putGcsObject(gcs.store, { bucket: 'images', name, contentEncoding: 'gzip' }, packed);
    const server = await serve();
    await readsAll(await open(`${server.url}/images/${encodeURIComponent(name)}`), packed);
  });

  it('is SourceChanged when its object was replaced, and SourceNotFound when it is gone', async () => {
    const object = { bucket: 'images', name: 'replaced.img' };
    await putGcsObject(gcs.store, object, BYTES);
    const server = await serve();
    const { source } = await open(`${server.url}/images/replaced.img`, {}, { maxReconnects: 0 });
    const { validators } = await source.probe();
    await putGcsObject(gcs.store, object, Buffer.concat([BYTES, BYTES]));
    const message = /source changed: generation was \d+, is \d+$/u;
    await fails(source.readInto(0, Buffer.alloc(5)), 'SourceChanged', message);
    await fails(collect(source.stream(2_000_000)), 'SourceChanged', message);
    const later = await open(`${server.url}/images/replaced.img`, {}, { expected: validators });
    await fails(later.source.probe(), 'SourceChanged', /source changed/u);
    await fetch(`${gcs.store.url}/storage/v1/b/images/o/replaced.img`, { method: 'DELETE' });
    await fails(source.readInto(0, Buffer.alloc(5)), 'SourceNotFound', /replaced\.img: 404 Not Found$/u);
  });

  it('is SourceNotFound, SourceForbidden or UnsupportedSource at once, as the server says', async () => {
    const server = await serve();
    await fails(
      (await open(`${server.url}/images/other.img`)).source.probe(),
      'SourceNotFound',
      /other\.img: 404 Not Found$/u,
    );
    const locked = await serve({ tokens });
    await fails(
      (await open(`${locked.url}/images/disk.img?signature`)).source.probe(),
      'SourceForbidden',
      /disk\.img: 401 Unauthorized$/u,
    );
    for (const body of [
      'SECRET-BODY-OF-AN-ERROR-PAGE',
      'null',
      '{"generation":"../x"}',
      '{"generation":7}',
    ]) {
      const other = await bench.serve(startServer((_request, response) => void response.end(body)));
      const { source } = await open(`${other.url}/images/disk.img`);
      await fails(source.probe(), 'UnsupportedSource', /does not speak the JSON interface/u);
    }
  });

  it('waits for tokens and metadata no longer than for bytes', async () => {
    const silent = await bench.serve(startSilentServer());
    const message = /no answer for 100 ms$/u;
    const { source } = await open(`${silent.url}/images/disk.img`, {}, { stallMs: 100 });
    await fails(source.probe(), 'SourceUnavailable', message);
    const server = await serve({ tokens });
    const request = { credentials: keyFor(silent) };
    const other = await open(`${server.url}/images/disk.img`, request, { stallMs: 100 });
    await fails(other.source.probe(), 'SourceUnavailable', message);
    const cancelled = await open(`${silent.url}/images/disk.img`);
    const reason = new Error('cancelled');
    setTimeout(() => cancelled.abort.abort(reason), 20);
    await assert.rejects(cancelled.source.probe(), reason);
  });

  it('is reached through a proxy with everything that it needs, and trusted by the certificates of the request', async () => {
    const authority = await createAuthority();
    const tls = await authority.issue(['storage.googleapis.com', 'tokens.test']);
    const server = await serve({ tokens, tls });
    const tokenServer = await serveTokens({ tls, host: 'tokens.test' });
    const proxy = await bench.serve(
      startProxyServer({ route: (host) => (host === 'tokens.test' ? tokenServer.port : server.port) }),
    );
    const credentials = keyFor(tokenServer, { token_uri: `https://tokens.test:${tokenServer.port}/token` });
    const network = { ca: authority.ca, proxy: { https: proxy.url } };
    await readsAll(await open('gs://images/disk.img', { ...network, credentials }));
    await fails(
      (await open('gs://images/disk.img', network)).source.probe(),
      'SourceForbidden',
      /^GET gs:\/\/images\/disk\.img: 401 Unauthorized$/u,
    );
    assert.deepEqual(
      [...new Set(proxy.proxied.map(({ line }) => line))],
      [`CONNECT tokens.test:${tokenServer.port}`, 'CONNECT storage.googleapis.com:443'],
    );
  });
});
