import assert from 'node:assert/strict';
import { startProxyServer, startRedirectServer } from '../../support/servers/index.js';
import type { ProxyOptions, ProxyServer } from '../../support/servers/index.js';
import { fails, useBench } from './open.js';

describe('a proxy before an HTTP source', () => {
  const bench = useBench();
  const proxy = (options: ProxyOptions): Promise<ProxyServer> => bench.serve(startProxyServer(options));

  it('leads to no address that is refused', async () => {
    const by = await proxy({ route: () => by.port });
    const settings = { proxy: { http: by.url, https: by.url } };
    const policy = { allowed: ['127.0.0.1'], denied: ['192.0.2.0/24'] };
    const hop = await bench.serve(startRedirectServer(() => 'http://169.254.169.254/latest/meta-data'));
    for (const url of [
      'http://169.254.169.254/latest',
      'https://[::ffff:169.254.169.254]/latest',
      'https://192.0.2.9/',
      hop.url,
    ]) {
      const { source } = bench.open(url, settings, { policy });
      await fails(source.probe(), 'SourceNotAllowed', /are refused: \S+ \((link-local|denied by)/u);
    }
    assert.equal(by.connections(), 0);
  });

  it('is at no address that is refused itself', async () => {
    const by = await proxy({ route: () => undefined });
    for (const host of ['127.0.0.1', 'localhost']) {
      for (const scheme of ['http', 'https']) {
        const settings = { proxy: { [scheme]: `http://${host}:${by.port}` } };
        const { source } = bench.open(`${scheme}://images.test/`, settings, {
          policy: { allowed: [], denied: [] },
        });
        await fails(
          source.probe(),
          'SourceNotAllowed',
          /^proxy http:\/\/\S+: connections to \S+ are refused/u,
        );
      }
    }
    assert.equal(by.connections(), 0);
  });

  for (const [connectAnswer, type, message] of [
    ['HTTP/1.1 403 Forbidden\r\n\r\n', 'SourceForbidden', /403 Forbidden to CONNECT images\.test:443$/u],
    ['HTTP/1.1 404 Not Found\r\n\r\n', 'SourceForbidden', /404 Not Found to CONNECT/u],
    ['HTTP/1.1 502 Bad Gateway\r\n\r\n', 'SourceUnavailable', /502 Bad Gateway to CONNECT/u],
    [
      'HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n',
      'SourceUnavailable',
      /302 Found to CONNECT/u,
    ],
    [
      'HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/4\r\nContent-Length: 4\r\n\r\nfake',
      'SourceUnavailable',
      /server does not speak TLS|connection reset|closed|disconnected/u,
    ],
    [`HTTP/1.1 200 OK\r\nX: ${'y'.repeat(20_000)}\r\n\r\n`, 'SourceUnavailable', /headers are larger/u],
    ['SSH-2.0-OpenSSH_9.6\r\n', 'SourceUnavailable', /^proxy /u],
  ] as const) {
    it(`answers for no server, with ${JSON.stringify(connectAnswer.slice(0, 30))}`, async () => {
      const by = await proxy({ route: () => undefined, connectAnswer });
      const { source } = bench.open('https://images.test/', { proxy: { https: by.url } });
      await fails(source.probe(), type, message);
    });
  }

  for (const [address, message] of [
    ['socks5://me:pass-word@proxy.test', /^the proxy has scheme socks5, expected http or https$/u],
    ['http://me:pass-word@[', /^the address of the proxy is not a URL$/u],
  ] as const) {
    it(`is none that cannot be spoken with: ${address.replace('pass-word', '…')}`, async () => {
      const open = async () => bench.open('http://images.test/', { proxy: { http: address } });
      await fails(open(), 'InvalidDataVolume', message);
    });
  }
});
