import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { inspect } from 'node:util';
import {
  bufferContent,
  createAuthority,
  startContentServer,
  startProxyServer,
  startRawServer,
  startRedirectServer,
} from '../../support/servers/index.js';
import type { ProxyOptions, ProxyServer, RunningServer, TestAuthority } from '../../support/servers/index.js';
import { BYTES, collect, fails, useBench } from './open.js';

const LOGIN = { username: 'me:and', password: 'pass-word@' };

describe('an HTTP source behind a proxy', () => {
  const bench = useBench();
  let origins: TestAuthority;
  let proxies: TestAuthority;
  before(async () => {
    origins = await createAuthority();
    proxies = await createAuthority('Authority of the proxies');
  });

  const content = bufferContent(BYTES);
  const plain = () => bench.serve(startContentServer(content));
  const secure = async (...names: string[]) =>
    bench.serve(startContentServer(content, {}, { tls: await origins.issue(names) }));
  const to = (server: RunningServer, name = 'images.test') => ({
    route: (host: string) => (host === name ? server.port : undefined),
  });
  const proxy = (options: ProxyOptions): Promise<ProxyServer> => bench.serve(startProxyServer(options));
  const linesOf = ({ proxied }: ProxyServer): string[] => [...new Set(proxied.map(({ line }) => line))];

  async function readsAll(source: ReturnType<typeof bench.open>['source']): Promise<void> {
    assert.equal((await source.probe()).ranges, true);
    const target = Buffer.alloc(1000);
    await Promise.all([
      collect(source.stream(0)).then((all) => assert.ok(all.equals(BYTES))),
      source.readInto(2_000_000, target),
    ]);
    assert.ok(target.equals(BYTES.subarray(2_000_000, 2_001_000)));
  }

  it('is asked for by its whole URL when it is http', async () => {
    const origin = await plain();
    const by = await proxy(to(origin));
    const settings = { proxy: { http: by.url } };
    const { source, notices } = bench.open('http://images.test/a%20disk?q=1', settings, { pipelining: true });
    await readsAll(source);
    assert.deepEqual(notices, [], 'no reader with sockets of its own has tried');
    assert.deepEqual(linesOf(by), ['GET http://images.test/a%20disk?q=1']);
    for (const { headers, path } of origin.requests()) {
      assert.equal(headers.host, 'images.test');
      assert.equal(path, '/a%20disk?q=1');
    }
  });

  it('is reached through a tunnel when it is https, and proves itself', async () => {
    const origin = await secure('images.test');
    const by = await proxy(to(origin));
    const settings = { proxy: { https: by.url } };
    const request = { ...settings, ca: origins.ca };
    await readsAll(bench.open('https://images.test/disk', request, { pipelining: true }).source);
    assert.deepEqual(linesOf(by), ['CONNECT images.test:443']);
    assert.ok(by.proxied.length <= 3, 'tunnels are kept');
    await fails(
      bench.open('https://images.test/disk', settings).source.probe(),
      'SourceCertificateInvalid',
      /^GET https:\/\/images\.test\/disk: server certificate is not valid/u,
    );
    const { source } = bench.open('https://other.test:8443/disk', {
      proxy: { https: (await proxy(to(origin, 'other.test'))).url },
      ca: origins.ca,
    });
    await fails(source.probe(), 'SourceCertificateInvalid', /ERR_TLS_CERT_ALTNAME_INVALID/u);
  });

  it('is checked for the address that it has, not for the name of the proxy', async () => {
    const origin = await secure('localhost', 'proxy.test');
    const by = await proxy({ route: () => origin.port });
    const settings = { ca: origins.ca, proxy: { https: by.url.replace('127.0.0.1', 'localhost') } };
    await fails(
      bench.open('https://192.0.2.9/disk', settings).source.probe(),
      'SourceCertificateInvalid',
      /IP: 192\.0\.2\.9/u,
    );
  });

  for (const tunnelled of [false, true])
    it(`proves itself by the name in its URL, whatever the Host header, ${tunnelled ? 'in a tunnel' : 'on straight ways'}`, async () => {
      const named = await secure('localhost', 'images.test');
      const other = await secure('other.test');
      const open = async (origin: RunningServer, pipelining: boolean) => {
        const by = tunnelled ? { proxy: { https: (await proxy(to(origin))).url } } : {};
        const request = { ca: origins.ca, headers: [['Host', 'other.test']] as const, ...by };
        const url = tunnelled ? 'https://images.test/disk' : origin.url;
        return bench.open(url, request, { pipelining }).source;
      };
      for (const pipelining of [false, true]) {
        await readsAll(await open(named, pipelining));
        const source = await open(other, pipelining);
        await fails(source.probe(), 'SourceCertificateInvalid', /ERR_TLS_CERT_ALTNAME_INVALID/u);
      }
      assert.ok(named.requests().every(({ headers }) => headers.host === 'other.test'));
    });

  it('is reached by proxies that speak TLS, trusted by their own certificates', async () => {
    const [http, https] = [await plain(), await secure('images.test')];
    const tls = await proxies.issue(['localhost']);
    const by = await proxy({ route: (_host, port) => (port === 443 ? https.port : http.port), tls });
    const settings = { http: by.url, https: by.url };
    const trusted = { ca: origins.ca, proxy: { ...settings, ca: proxies.ca } };
    await readsAll(bench.open('http://images.test/', trusted).source);
    await readsAll(bench.open('https://images.test/', trusted).source);
    for (const scheme of ['http', 'https']) {
      const { source } = bench.open(`${scheme}://images.test/`, { ca: proxies.ca, proxy: settings });
      await fails(
        source.probe(),
        'SourceCertificateInvalid',
        /^proxy https:\/\/localhost:\d+: proxy certificate is not valid/u,
      );
    }
    assert.ok(https.requests().every(({ headers }) => headers['proxy-authorization'] === undefined));
  });

  it('is trusted by the certificates of the proxies too, behind one and without one', async () => {
    const origin = await secure('images.test', 'localhost');
    const by = await proxy(to(origin));
    await readsAll(bench.open('https://images.test/', { proxy: { https: by.url, ca: origins.ca } }).source);
    const direct = origin.url.replace('127.0.0.1', 'localhost');
    await readsAll(bench.open(direct, { proxy: { ca: origins.ca } }).source);
    await readsAll(bench.open(direct, { ca: proxies.ca, proxy: { ca: origins.ca } }).source);
    await readsAll(bench.open(direct, { ca: origins.ca, proxy: { ca: proxies.ca } }).source);
  });

  it('is refused without the right credentials of the proxy, which nobody else gets to see', async () => {
    const [http, https] = [await plain(), await secure('images.test')];
    const by = await proxy({
      route: (_host, port) => (port === 443 ? https.port : http.port),
      login: LOGIN,
    });
    const withLogin = (user: string) => by.url.replace('//', `//${user}:pass-word%40@`);
    for (const scheme of ['http', 'https'] as const) {
      const open = (url: string) =>
        bench.open(`${scheme}://images.test/`, { ca: origins.ca, proxy: { [scheme]: url } }).source;
      await readsAll(open(withLogin('me%3Aand')));
      for (const url of [by.url, withLogin('you')]) {
        const error = await fails(
          open(url).probe(),
          'SourceForbidden',
          /proxy .*407 Proxy|407 Proxy.*proxy/u,
        );
        assert.doesNotMatch(inspect(error, { depth: 10 }), /pass-word|PROXY-PAGE/u);
      }
    }
    for (const { headers } of [...http.requests(), ...https.requests()]) {
      assert.equal(headers['proxy-authorization'], undefined);
    }
  });

  it('is judged anew with each redirect: through the proxy, or around it', async () => {
    const target = await plain();
    const outside = await bench.serve(startRedirectServer(() => `${target.url}/disk`));
    const by = await proxy(to(outside));
    await readsAll(bench.open('http://images.test/old', { proxy: { http: by.url } }).source);
    assert.deepEqual(linesOf(by), ['GET http://images.test/old']);

    const inside = await bench.serve(startRedirectServer(() => 'http://mirror.test/disk'));
    const other = await proxy(to(target, 'mirror.test'));
    const { source } = bench.open(inside.url, {
      username: 'me',
      password: 'pass-word',
      proxy: { http: other.url, noProxy: 'images.test' },
    });
    await readsAll(source);
    assert.deepEqual(linesOf(other), ['GET http://mirror.test/disk']);
    assert.notEqual(inside.requests()[0]?.headers.authorization, undefined);
    for (const { headers } of target.requests()) assert.equal(headers.authorization, undefined);
  });

  it('is asked directly where the list says so', async () => {
    const by = await proxy({ route: () => undefined });
    const settings = { http: by.url, noProxy: '.invalid' };
    const { source } = bench.open('http://images.invalid/', { proxy: settings });
    await fails(source.probe(), 'SourceUnavailable', /host name not found|name server did not answer/u);
    assert.deepEqual(by.proxied, []);
  });

  it('is waited for no longer than a server that says nothing, and no connection stays', async () => {
    for (const scheme of ['http', 'https']) {
      const sockets: Socket[] = [];
      const by = await bench.serve(startRawServer((socket) => void sockets.push(socket.resume())));
      const { source } = bench.open(
        `${scheme}://images.test/`,
        { proxy: { [scheme]: by.url } },
        { stallMs: 200 },
      );
      await fails(source.probe(), 'SourceUnavailable', /no answer for 200 ms/u);
      source.close();
      for (const socket of sockets) if (!socket.closed) await once(socket, 'close');
    }
  });

  it('goes on after a connection that was lost, like any other', async () => {
    const https = await bench.serve(
      startContentServer(content, (index) => (index < 3 ? { dropAfter: 500_000 } : {}), {
        tls: await origins.issue(['images.test']),
      }),
    );
    const by = await proxy(to(https));
    const { source, notices } = bench.open('https://images.test/', {
      ca: origins.ca,
      proxy: { https: by.url },
    });
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    assert.ok(notices.length > 0);
  });

  it('is SourceUnavailable while the proxy cannot be reached', async () => {
    const by = await startProxyServer({ route: () => undefined });
    await by.close();
    for (const scheme of ['http', 'https']) {
      const { source } = bench.open(`${scheme}://images.test/`, { proxy: { [scheme]: by.url } });
      await fails(source.probe(), 'SourceUnavailable', /^proxy http:\/\/\S+: connection refused/u);
    }
  });

  it('takes a proxy without a scheme for http', async () => {
    const origin = await plain();
    const by = await proxy(to(origin));
    const { source } = bench.open('http://images.test/', { proxy: { http: `127.0.0.1:${by.port}` } });
    assert.equal((await source.probe()).ranges, true);
  });
});
