import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import type { S3Request } from '../../../activities/image/source/types.js';
import { startGoServer, useGoProgram } from '../../support/servers/go-servers.js';
import type { GoServer } from '../../support/servers/go-servers.js';
import {
  createAuthority,
  startProxyServer,
  startRedirectServer,
  startServer,
} from '../../support/servers/index.js';
import { putObject, startS3Server } from '../../support/servers/s3-server.js';
import type { S3ServerOptions } from '../../support/servers/s3-server.js';
import { BYTES, collect, fails, useBench } from './open.js';
import type { Opened } from './open.js';

const KEYS = { accessKeyId: 'AKIDEXAMPLE', secretKey: 'pass-word/+secret' };
const LETS_IN = { keys: { [KEYS.accessKeyId]: KEYS.secretKey } };

describe('an S3 source', () => {
  useGoProgram();
  const bench = useBench();
  let store: GoServer;
  before(async () => {
    store = await startGoServer('s3');
    await putObject(store, '/images/disk.img', BYTES);
    await putObject(store, '/images/empty.img', Buffer.alloc(0));
  });
  after(() => store.end());

  const serve = (options: Partial<S3ServerOptions> = {}) =>
    bench.serve(startS3Server({ store, ...LETS_IN, ...options }));
  /** One that is in another region each time that it says where it is. */
  const serveFickle = (options: Partial<S3ServerOptions>) => {
    let asked = 0;
    return bench.serve(
      startS3Server({
        store,
        ...LETS_IN,
        ...options,
        get region() {
          return `eu-west-${(asked += 1)}`;
        },
      }),
    );
  };
  const open = (url: string, request: Partial<S3Request> = {}, options = {}): Promise<Opened> =>
    bench.openRequest({ kind: 's3', url, ...KEYS, ...request }, options);

  async function readsAll({ source }: Opened): Promise<void> {
    const facts = await source.probe();
    assert.equal(facts.ranges, true);
    assert.equal(facts.validators.length, BYTES.length);
    assert.match(facts.validators.etag ?? '', /^"[0-9a-f]{32}"$/u);
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    const target = Buffer.alloc(1000);
    await source.readInto(2_000_000, target);
    assert.ok(target.equals(BYTES.subarray(2_000_000, 2_001_000)));
  }

  it('is read with keys, at an endpoint', async () => {
    const server = await serve();
    const opened = await open(`${server.url}/images/disk.img`);
    await readsAll(opened);
    assert.equal((await opened.source.probe()).displayUrl, `${server.url}/images/disk.img`);
    const signatures = server.requests().map(({ path }) => path);
    assert.equal(new Set(signatures).size, 1, 'one signature serves all requests');
    assert.doesNotMatch(
      inspect(await opened.source.probe(), { depth: 9, maxArrayLength: 0 }),
      /X-Amz|Signature/u,
    );
  });

  it('is read without keys where everybody may', async () => {
    const server = await serve({ isPublic: true });
    await readsAll(await bench.openRequest({ kind: 's3', url: `${server.url}/images/disk.img` }));
    assert.ok(server.requests().every(({ path }) => path === '/images/disk.img'));
  });

  it('is found by whatever name it has', async () => {
    const server = await serve();
    for (const name of [
      'a b+c.img',
      "!'()*~.img",
      'ü€😀.img',
      'a%20b.img',
      'dir/../x'.replace('..', '...'),
      'q?x=y&z#w',
    ]) {
      const path = `/images/${name.split('/').map(encodeURIComponent).join('/')}`;
      await putObject(store, path, Buffer.from(name.repeat(100)));
      const { source } = await open(`${server.url}${path}`);
      assert.equal((await collect(source.stream(0))).toString(), name.repeat(100), name);
    }
  });

  it('may be empty', async () => {
    const server = await serve();
    const { source } = await open(`${server.url}/images/empty.img`);
    assert.equal((await source.probe()).validators.length, 0);
  });

  it('is refused without the right keys, by the address that the user wrote', async () => {
    const server = await serve();
    const url = `${server.url}/images/disk.img?X-Amz-Signature=signature`;
    const message = /^GET http:\/\/127\.0\.0\.1:\d+\/images\/disk\.img: 403 Forbidden$/u;
    for (const request of [{ secretKey: 'pass-word' }, { accessKeyId: 'other' }]) {
      const error = await fails((await open(url, request)).source.probe(), 'SourceForbidden', message);
      assert.doesNotMatch(inspect(error, { depth: 10 }), /pass-word|X-Amz|signature/u);
    }
    const { source } = await bench.openRequest({ kind: 's3', url });
    await fails(source.probe(), 'SourceForbidden', message);
  });

  it('is SourceNotFound when there is no such object', async () => {
    const server = await serve();
    const { source } = await open(`${server.url}/images/other.img`);
    await fails(source.probe(), 'SourceNotFound', /other\.img: 404 Not Found$/u);
  });

  it('needs both halves of its keys', async () => {
    for (const half of ['accessKeyId', 'secretKey'] as const) {
      const opening = bench.openRequest({ kind: 's3', url: 's3://images/disk.img', [half]: 'pass-word' });
      await fails(opening, 'InvalidDataVolume', /need both accessKeyId and secretKey/u);
    }
  });

  it('signs anew when a signature is not taken any longer', async () => {
    let region = 'us-east-1';
    const server = await bench.serve(
      startS3Server({
        store,
        ...LETS_IN,
        get region() {
          return region;
        },
      }),
    );
    const { source } = await open(`${server.url}/images/disk.img`);
    await source.probe();
    region = 'eu-west-1';
    const target = Buffer.alloc(10);
    await source.readInto(5, target);
    assert.ok(target.equals(BYTES.subarray(5, 15)));
    assert.equal(new Set(server.requests().map(({ path }) => path)).size, 2);
  });

  for (const elsewhere of [301, 400] as const) {
    it(`follows a server that answers ${elsewhere} to another region, once`, async () => {
      const server = await serve({ region: 'eu-west-3', elsewhere });
      await readsAll(await open(`${server.url}/images/disk.img`));
      const fickle = await serveFickle({ elsewhere });
      const { source } = await open(`${fickle.url}/images/disk.img`);
      await fails(source.probe(), elsewhere === 301 ? 'SourceNotFound' : 'SourceForbidden', /: (301|400) /u);
      assert.equal(fickle.requests().length, 2);
    });
  }

  it('follows a server that names another region in the error alone, once', async () => {
    const server = await serve({ region: 'garage', tells: 'body' });
    await readsAll(await open(`${server.url}/images/disk.img`));
    const fickle = await serveFickle({ tells: 'body' });
    const { source } = await open(`${fickle.url}/images/disk.img`);
    await fails(source.probe(), 'SourceForbidden', /: 400 /u);
    assert.equal(fickle.requests().length, 2);
  });

  it('waits for no error that does not end, and reads no long one to its end', async () => {
    for (const body of ['<Error>', `<Error>${' '.repeat(1024 * 1024)}<Region>eu-west-1</Region>`]) {
      const server = await bench.serve(
        startServer((_request, response) => void response.writeHead(400).write(body)),
      );
      const { source } = await open(`${server.url}/images/disk.img`, {}, { stallMs: 200 });
      await fails(source.probe(), 'SourceForbidden', /: 400 /u);
      const credentials = server
        .requests()
        .map(({ path }) => /X-Amz-Credential=([^&]*)/u.exec(path)?.[1] ?? '');
      assert.ok(credentials.every((credential) => credential.includes('us-east-1')));
    }
  });

  it('is signed anew for the region that a redirect names, whose target would not take the old signature', async () => {
    const elsewhere = await serve({ region: 'eu-west-3' });
    const server = await serve({
      region: 'eu-west-3',
      elsewhere: 307,
      location: `${elsewhere.url}/images/disk.img`,
    });
    await readsAll(await open(`${server.url}/images/disk.img`));
    assert.equal(elsewhere.connections(), 0);
  });

  it('is read where a redirect leads that names a region for nothing', async () => {
    const elsewhere = await serve({ isPublic: true });
    const location = `${elsewhere.url}/images/disk.img`;
    const fickle = await serveFickle({ elsewhere: 307, location });
    await readsAll(await open(`${fickle.url}/images/disk.img`));
    assert.equal(fickle.requests().length, 2);
  });

  it('is found at AWS by bucket and key alone, in the region where the bucket is, with and without keys', async () => {
    const authority = await createAuthority();
    for (const isPublic of [false, true]) {
      const tls = await authority.issue(['*.s3.us-east-1.amazonaws.com', '*.s3.eu-west-3.amazonaws.com']);
      const server = await serve({ tls, region: 'eu-west-3', elsewhere: 301, isPublic });
      const proxy = await bench.serve(startProxyServer({ route: () => server.port }));
      const request = { url: 's3://images/disk.img', ca: authority.ca, proxy: { https: proxy.url } };
      const opened = await bench.openRequest({ kind: 's3', ...request, ...(isPublic ? {} : KEYS) });
      await readsAll(opened);
      assert.equal((await opened.source.probe()).displayUrl, 's3://images/disk.img');
      assert.deepEqual(
        [...new Set(proxy.proxied.map(({ line }) => line))],
        ['CONNECT images.s3.us-east-1.amazonaws.com:443', 'CONNECT images.s3.eu-west-3.amazonaws.com:443'],
      );
    }
  });

  it('is found at AWS by a key that begins with a slash', async () => {
    await putObject(store, '/images//slash.img', BYTES);
    const authority = await createAuthority();
    const server = await serve({ tls: await authority.issue(['*.s3.us-east-1.amazonaws.com']) });
    const proxy = await bench.serve(startProxyServer({ route: () => server.port }));
    await readsAll(await open('s3://images//slash.img', { ca: authority.ca, proxy: { https: proxy.url } }));
    assert.ok(server.requests().every(({ path }) => path.startsWith('//slash.img?')));
  });

  it('is trusted by the certificates of the request, and no others', async () => {
    const authority = await createAuthority();
    const server = await serve({ tls: await authority.issue(['localhost']) });
    await readsAll(await open(`${server.url}/images/disk.img`, { ca: authority.ca }));
    const { source } = await open(`${server.url}/images/disk.img`);
    await fails(
      source.probe(),
      'SourceCertificateInvalid',
      /^GET https:\/\/localhost:\d+\/images\/disk\.img: /u,
    );
  });

  it('gives its signature to no server that it is redirected to', async () => {
    const elsewhere = await serve({ isPublic: true });
    const origin = await bench.serve(startRedirectServer(() => `${elsewhere.url}/images/disk.img`));
    await readsAll(await open(`${origin.url}/images/disk.img`));
    assert.match(origin.requests()[0]?.path ?? '', /X-Amz-Signature/u);
    assert.ok(elsewhere.requests().every(({ path }) => path === '/images/disk.img'));
  });

  it('is at no address that is refused', async () => {
    const server = await serve();
    const { source } = await open(
      `${server.url}/images/disk.img`,
      {},
      { policy: { allowed: [], denied: [] } },
    );
    await fails(source.probe(), 'SourceNotAllowed', /loopback/u);
    assert.equal(server.connections(), 0);
  });

  it('is not the same when its object was replaced', async () => {
    const server = await serve();
    await putObject(store, '/images/replaced.img', BYTES);
    const { source } = await open(`${server.url}/images/replaced.img`);
    await source.probe();
    await putObject(store, '/images/replaced.img', Buffer.concat([BYTES.subarray(1), BYTES.subarray(0, 1)]));
    await fails(source.readInto(0, Buffer.alloc(5)), 'SourceChanged', /ETag was/u);
  });
});
