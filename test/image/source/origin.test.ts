import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import {
  bufferContent,
  startContentServer,
  startRedirectServer,
  startServer,
} from '../../support/servers/index.js';
import type { RunningServer } from '../../support/servers/index.js';
import { BYTES, collect, fails, useBench } from './open.js';

const LOGIN = { username: 'me', password: 'pass-word' };
const BASIC = `Basic ${Buffer.from('me:pass-word').toString('base64')}`;

describe('headers, credentials and redirects of an HTTP source', () => {
  const bench = useBench();
  const serve = () => bench.serve(startContentServer(bufferContent(BYTES)));
  const headersOf = (server: RunningServer) => server.requests().map(({ headers }) => headers);

  it('sends basic auth and extra headers with each request', async () => {
    const server = await bench.serve(
      startContentServer(bufferContent(BYTES), { basicAuth: LOGIN, requiredHeader: ['X-Token', 'sesame'] }),
    );
    const { source } = bench.open(server.url, {
      ...LOGIN,
      headers: [
        ['X-Plain', 'yes: it is'],
        ['X-Twice', '1'],
        ['X-Twice', '2'],
        ['Range', 'bytes=0-0'],
        ['Accept-Encoding', 'gzip'],
      ],
      secretHeaders: [['X-Token', 'sesame\n']],
    });
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    await source.readInto(7, Buffer.alloc(9));
    for (const headers of headersOf(server)) {
      assert.equal(headers['x-plain'], 'yes: it is');
      assert.equal(headers['x-twice'], '1, 2');
      assert.equal(headers['accept-encoding'], 'identity');
      assert.notEqual(headers.range, 'bytes=0-0');
    }
  });

  for (const pipelining of [false, true])
    it(`sends values in UTF-8, ${pipelining ? 'pipelined' : 'one by one'}`, async () => {
      const value = 'Grüße, 10 € \u{1f512}';
      const server = await serve();
      const { source } = bench.open(server.url, { headers: [['X-Name', value]] }, { pipelining });
      assert.ok((await collect(source.stream(0))).equals(BYTES));
      await source.readInto(7, Buffer.alloc(9));
      assert.ok(server.requests().length > 1);
      for (const headers of headersOf(server))
        assert.equal(Buffer.from(String(headers['x-name']), 'latin1').toString(), value);
    });

  it('sends values in UTF-8 behind redirects too', async () => {
    const target = await serve();
    const origin = await bench.serve(startRedirectServer(() => target.url));
    await bench.open(origin.url, { headers: [['X-Name', '€']] }).source.probe();
    assert.equal(Buffer.from(String(headersOf(target)[0]?.['x-name']), 'latin1').toString(), '€');
  });

  it('takes user info from the URL, and shows it nowhere', async () => {
    const server = await bench.serve(startContentServer(bufferContent(BYTES), { basicAuth: LOGIN }));
    const url = server.url.replace('//', '//me:pass%2Dword@');
    const { source } = bench.open(`${url}/disk?signature=x#part`);
    assert.equal((await source.probe()).displayUrl, `${server.url}/disk`);
    const { source: refused } = bench.open(`${url.replace('me', 'you')}/disk?signature=x`);
    await fails(
      refused.probe(),
      'SourceForbidden',
      /^GET http:\/\/127\.0\.0\.1:\d+\/disk: 401 Unauthorized$/u,
    );
  });

  it('sends no credentials when one half of them is missing', async () => {
    const server = await serve();
    await bench.open(server.url, { username: 'me' }).source.probe();
    assert.equal(headersOf(server)[0]?.authorization, undefined);
  });

  it('gives secrets to the origin that the user named, and to no other', async () => {
    const target = await serve();
    const origin = await bench.serve(startRedirectServer(() => `${target.url}/disk?signature=x`));
    const { source } = bench.open(origin.url, {
      ...LOGIN,
      headers: [
        ['X-Plain', 'yes'],
        ['Cookie', 'a=b'],
      ],
      secretHeaders: [['X-Token', 'sesame']],
    });
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    await source.readInto(1, Buffer.alloc(10));
    const [asked, ...more] = headersOf(origin);
    assert.equal(more.length, 0, 'the target is pinned');
    assert.equal(asked?.authorization, BASIC);
    assert.equal(asked['x-token'], 'sesame');
    assert.equal(asked.cookie, 'a=b');
    assert.equal(headersOf(target).length, 3);
    for (const headers of headersOf(target)) {
      assert.equal(headers['x-plain'], 'yes');
      assert.equal(headers['user-agent'], 'dvflow');
      for (const name of ['authorization', 'cookie', 'x-token']) assert.equal(headers[name], undefined, name);
    }
  });

  it('gives secrets again to the origin when a redirect comes back to it', async () => {
    const away: RunningServer = await bench.serve(startRedirectServer(() => `${origin.url}/disk`));
    const files = bufferContent(BYTES);
    const origin: RunningServer = await bench.serve(
      startContentServer(files, (_index, { path }) =>
        path === '/disk' ? { basicAuth: LOGIN } : { status: 302, location: away.url },
      ),
    );
    await bench.open(`${origin.url}/start`, LOGIN).source.probe();
    assert.equal(headersOf(away)[0]?.authorization, undefined);
    assert.deepEqual(
      headersOf(origin).map(({ authorization }) => authorization),
      [BASIC, BASIC],
    );
  });

  for (const status of [301, 302, 303, 307, 308]) {
    it(`follows ${status} within the origin with everything`, async () => {
      const server = await bench.serve(
        startContentServer(bufferContent(BYTES), (_index, { path }) =>
          path === '/disk' ? { basicAuth: LOGIN } : { status, location: '/disk' },
        ),
      );
      assert.equal((await bench.open(`${server.url}/old`, LOGIN).source.probe()).ranges, true);
    });
  }

  it('does not take credentials out of a redirect', async () => {
    const target = await serve();
    const origin = await bench.serve(
      startRedirectServer(() => `${target.url.replace('//', '//you:other@')}/disk`),
    );
    assert.ok((await collect(bench.open(origin.url).source.stream(0))).equals(BYTES));
    for (const { authorization } of headersOf(target)) assert.equal(authorization, undefined);
  });

  it('follows ten redirects and no eleventh', async () => {
    const target = await serve();
    const chain = await bench.serve(
      startRedirectServer((path) => {
        const left = Number(path.slice(1));
        return left === 1 ? target.url : `/${left - 1}`;
      }),
    );
    await bench.open(`${chain.url}/10`).source.probe();
    await fails(bench.open(`${chain.url}/11`).source.probe(), 'SourceNotFound', /more than 10 redirects$/u);
    const loop = await bench.serve(startRedirectServer(() => '/again'));
    await fails(bench.open(loop.url).source.probe(), 'SourceNotFound', /more than 10 redirects$/u);
    assert.equal(loop.requests().length, 11);
  });

  it('resolves again when the target of a redirect expires', async () => {
    let valid = 1;
    const target = await bench.serve(
      startContentServer(bufferContent(BYTES), (_index, { path }) =>
        path === `/disk-${valid}` ? {} : { status: 403 },
      ),
    );
    const origin = await bench.serve(startRedirectServer(() => `${target.url}/disk-${valid}`));
    const { source, notices } = bench.open(origin.url, LOGIN);
    await source.probe();
    valid = 2;
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    const bytes = Buffer.alloc(100);
    valid = 3;
    await source.readInto(50, bytes);
    assert.ok(bytes.equals(BYTES.subarray(50, 150)));
    assert.equal(origin.requests().length, 3);
    assert.match(notices[0] ?? '', /^redirect target answered 403 Forbidden: resolving the source again$/u);
  });

  it('takes a refusal as final from the origin only, once it has worked', async () => {
    let status: number | undefined = undefined;
    const target = await bench.serve(startContentServer(bufferContent(BYTES), () => ({ status })));
    const origin = await bench.serve(
      startServer((_request, response) => {
        response.writeHead(gone ? 404 : 302, { location: target.url }).end();
      }),
    );
    let gone = false;
    const { source } = bench.open(origin.url, {}, { maxReconnects: 1 });
    await source.probe();
    status = 403;
    await fails(
      source.readInto(0, Buffer.alloc(5)),
      'SourceUnavailable',
      / from redirect target http:\/\/127\.0\.0\.1:\d+: 403 Forbidden$/u,
    );
    gone = true;
    await fails(source.readInto(0, Buffer.alloc(5)), 'SourceNotFound', /404 Not Found$/u);
  });

  it('takes the refusal of a target that is named twice as final, unless an earlier attempt has read from it', async () => {
    const target = await bench.serve(startContentServer(bufferContent(BYTES), { status: 404 }));
    const origin = await bench.serve(startRedirectServer(() => target.url));
    await fails(bench.open(origin.url).source.probe(), 'SourceNotFound', /404 Not Found$/u);
    assert.equal(origin.requests().length, 2);
    const { source } = bench.open(origin.url, {}, { expected: { etag: '"v1"' } });
    await fails(source.probe(), 'SourceUnavailable', / from redirect target http:\S+: 404 Not Found$/u);
  });

  for (const [name, request, note] of [
    ['', {}, ''],
    [', without the credentials', LOGIN, ', to which credentials are not sent'],
    [
      ', without the secret headers',
      { secretHeaders: [['X-Token', 'sesame']] },
      ', to which credentials are not sent',
    ],
    [
      ', with all that there is',
      {
        headers: [
          ['X-Plain', 'yes'],
          ['Host', 'a'],
        ],
      },
      '',
    ],
  ] as const)
    it(`names the origin of a target that refuses${name}`, async () => {
      const target = await bench.serve(startContentServer(bufferContent(BYTES), { status: 403 }));
      const address = `${target.url.replace('//', '//you:sesame@')}/disk?signature=x`;
      const origin = await bench.serve(startRedirectServer(() => address));
      const message = `GET ${origin.url}/ from redirect target ${target.url}${note}: 403 Forbidden`;
      const error = await fails(bench.open(origin.url, request).source.probe(), 'SourceForbidden', /403/u);
      assert.equal(error.message, message);
    });

  it('says nothing of credentials where they were sent, or are not missed', async () => {
    let status = 403;
    const origin = await bench.serve(
      startContentServer(bufferContent(BYTES), (_index, { path }) =>
        path === '/disk' ? { status } : { status: 302, location: '/disk' },
      ),
    );
    const { source } = bench.open(`${origin.url}/old`, LOGIN);
    await fails(source.probe(), 'SourceForbidden', /\/old from redirect target http:\S+\d: 403 Forbidden$/u);
    const target = await bench.serve(startContentServer(bufferContent(BYTES), () => ({ status })));
    const away = await bench.serve(startRedirectServer(() => target.url));
    status = 500;
    const asked = bench.open(away.url, LOGIN, { maxReconnects: 0 }).source.probe();
    await fails(asked, 'SourceUnavailable', / from redirect target http:\S+\d: 500 /u);
  });

  it('names the origin of a target that cannot be reached, the last one and a pinned one', async () => {
    const last = await bench.serve(
      startRedirectServer(() => 'http://no-such-host.invalid:81/disk?signature=x'),
    );
    const origin = await bench.serve(startRedirectServer(() => `${last.url}/next`));
    await fails(
      bench.open(origin.url, LOGIN, { maxReconnects: 0 }).source.probe(),
      'SourceUnavailable',
      /^GET http:\S+ from redirect target http:\/\/no-such-host\.invalid:81: host name|^GET http:\S+ from redirect target http:\/\/no-such-host\.invalid:81: name server/u,
    );
    const target = await serve();
    const first = await bench.serve(startRedirectServer(() => target.url));
    const { source } = bench.open(first.url, {}, { maxReconnects: 0 });
    await source.probe();
    await target.close();
    const message = new RegExp(`from redirect target ${target.url}: connection re`, 'u');
    await fails(source.readInto(0, Buffer.alloc(5)), 'SourceUnavailable', message);
  });

  /** A redirector that names the mirrors `/0`, `/1`, … of another origin, of which the first `bad` refuse. */
  async function redirector(bad: number, status: number) {
    let named = 0;
    const mirrors = await bench.serve(
      startContentServer(bufferContent(BYTES), (_index, { path }) =>
        Number(path.slice(1)) < bad ? { status } : {},
      ),
    );
    return await bench.serve(startRedirectServer(() => `${mirrors.url}/${named++}`));
  }

  for (const status of [403, 404, 410]) {
    it(`asks a redirector for another mirror when one answers ${status}, up to three times`, async () => {
      const origin = await redirector(2, status);
      const { source, notices } = bench.open(origin.url);
      assert.ok((await collect(source.stream(0))).equals(BYTES));
      assert.equal(origin.requests().length, 3);
      assert.match(notices[0] ?? '', /^redirect target answered \d+ \w.*: asking for another one$/u);
      const hopeless = await redirector(3, status);
      const type = status === 403 ? 'SourceForbidden' : 'SourceNotFound';
      await fails(bench.open(hopeless.url).source.probe(), type, new RegExp(`: ${status} `, 'u'));
      assert.equal(hopeless.requests().length, 3);
    });
  }

  it('takes the refusal of its own address, and of a redirect within the origin, as final at once', async () => {
    const server = await bench.serve(
      startContentServer(bufferContent(BYTES), (index, { path }) =>
        path === '/disk' ? { status: 302, location: `/${index}` } : { status: 404 },
      ),
    );
    await fails(bench.open(server.url).source.probe(), 'SourceNotFound', /404 Not Found$/u);
    assert.equal(server.requests().length, 1);
    await fails(bench.open(`${server.url}/disk`).source.probe(), 'SourceNotFound', /404 Not Found$/u);
    assert.equal(server.requests().length, 3);
  });

  it('shows nothing of an address that is none', async () => {
    const server = await bench.serve(startRedirectServer(() => 'http://[signature'));
    const error = await fails(
      bench.open(server.url).source.probe(),
      'SourceNotFound',
      /address that is no URL$/u,
    );
    assert.doesNotMatch(inspect(error, { depth: 10 }), /signature/u);
  });

  for (const [headers, message] of [
    [[['X Bad', 'sesame']], /^header name "X Bad" is not valid in HTTP$/u],
    [[['X-Bad', 'ses\name']], /^value of header X-Bad holds characters/u],
    [[['X-Bad', 'sesame\ufffd']], /^value of header X-Bad is not UTF-8$/u],
    [
      [
        ['Host', 'sesame'],
        ['host', 'b'],
      ],
      /^header host is given more than once/u,
    ],
  ] as const) {
    it(`refuses ${JSON.stringify(headers)} by the name only`, async () => {
      const make = async () => bench.open('http://127.0.0.1/', { secretHeaders: headers });
      await fails(make(), 'InvalidDataVolume', message);
    });
  }

  it('refuses a value with line ends within in no time', async () => {
    // a regexp takes minutes for it, in which the control role does nothing else
    const make = async () =>
      bench.open('http://127.0.0.1/', { secretHeaders: [['X-Bad', `sesame${'\n'.repeat(200_000)}x`]] });
    await fails(make(), 'InvalidDataVolume', /^value of header X-Bad holds characters/u);
  });

  for (const [url, message] of [
    ['disk.img', /not an absolute URL/u],
    ['ftp://me:pass-word@host/disk', /scheme ftp, expected http or https/u],
    ['http://', /not an absolute URL/u],
    ['http://127.0.0.1:99999/disk.img', /has a host or a port that cannot be/u],
  ] as const) {
    it(`refuses the URL ${url.replace('pass-word', '…')}`, async () => {
      await fails((async () => bench.open(url))(), 'InvalidDataVolume', message);
    });
  }
});
