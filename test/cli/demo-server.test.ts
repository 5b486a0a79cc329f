import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isZeroFrom, sha256Of } from '../../cli/demo/disk.js';
import { serveFile, type FileServer } from '../../cli/demo/server.js';

const CONTENT = Buffer.from(Array.from({ length: 1_000 }, (_, n) => n % 251));

describe('web server of the demo', () => {
  let directory: string;
  let server: FileServer;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dvflow-server-'));
    await writeFile(join(directory, 'disk.img'), CONTENT);
    server = await serveFile(join(directory, 'disk.img'), 1024 ** 3);
  });
  after(async () => {
    await server.close();
    await rm(directory, { recursive: true });
  });

  async function get(headers: Record<string, string> = {}, method = 'GET') {
    const response = await fetch(server.url, { headers, method });
    return { response, body: Buffer.from(await response.arrayBuffer()) };
  }

  it('sends the whole file with a strong ETag', async () => {
    const { response, body } = await get();
    assert.equal(response.status, 200);
    assert.match(response.headers.get('etag') ?? '', /^"[^"]+"$/);
    assert.deepEqual(body, CONTENT);
  });

  it('answers HEAD without a body', async () => {
    const { response, body } = await get({}, 'HEAD');
    assert.deepEqual([response.headers.get('content-length'), body.length], ['1000', 0]);
  });

  for (const [range, first, last] of [
    ['bytes=0-9', 0, 9],
    ['bytes=990-', 990, 999],
    ['bytes=-10', 990, 999],
    ['bytes=995-5000', 995, 999],
  ] as const) {
    it(`sends ${range}`, async () => {
      const { response, body } = await get({ Range: range });
      assert.equal(response.status, 206);
      assert.equal(response.headers.get('content-range'), `bytes ${first}-${last}/1000`);
      assert.deepEqual(body, CONTENT.subarray(first, last + 1));
    });
  }

  it('refuses a range behind the end', async () => {
    assert.equal((await get({ Range: 'bytes=1000-' })).response.status, 416);
  });

  it('sends everything when If-Range names another version', async () => {
    const { response, body } = await get({ Range: 'bytes=0-9', 'If-Range': '"other"' });
    assert.deepEqual([response.status, body.length], [200, 1000]);
  });

  it('hashes the size that the guest sees, and looks at what follows', async () => {
    const padded = join(directory, 'padded.img');
    await writeFile(padded, Buffer.concat([CONTENT, Buffer.alloc(3 * 1024 ** 2)]));
    assert.equal(await sha256Of(padded, 1_000), await sha256Of(join(directory, 'disk.img'), 1_000));
    assert.equal(await isZeroFrom(padded, 1_000), true);
    assert.equal(await isZeroFrom(padded, 999), false);
  });
});
