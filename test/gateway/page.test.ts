import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { projectPath } from '../docs/documents.js';
import { startTestGateway, type TestGateway } from './support.js';

describe('the upload page', () => {
  let gateway: TestGateway;

  before(async () => {
    gateway = await startTestGateway();
  });
  after(async () => {
    await gateway.close();
  });

  async function get(path: string, headers: Record<string, string> = {}) {
    return await gateway.send({ method: 'GET', path, headers });
  }

  it('is served with all that it names, and talks to its own server only', async () => {
    const { status, text, headers } = await get('/upload/');
    assert.equal(status, 200);
    assert.match(String(headers['content-security-policy']), /^default-src 'none'; .*connect-src 'self'/);
    const named = [...text.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, name = '']) => name);
    assert.deepEqual(named.sort(), ['tus.min.js', 'upload.css', 'upload.js']);
    for (const name of named) assert.equal((await get(`/upload/${name}`)).status, 200, name);
    // no script or style of its own would be let through
    assert.doesNotMatch(text, /<script>|style=|\son[a-z]+=/);
  });

  it('hands out tus-js-client as its package has it', async () => {
    const { text } = await get('/upload/tus.min.js');
    assert.ok(text === readFileSync(projectPath('node_modules/tus-js-client/dist/tus.min.js'), 'utf8'));
  });

  it('is where a browser is led, and no other file of the machine is', async () => {
    const root = await get('/', { accept: 'text/html' });
    assert.deepEqual([root.status, root.headers['location']], [302, 'upload/']);
    const bare = await get('/upload');
    assert.deepEqual([bare.status, bare.headers['location']], [302, './upload/']);
    for (const path of ['/upload/../package.json', '/upload/%2e%2e/package.json', '/upload/package.json'])
      assert.equal((await get(path)).status, 404, path);
    // kube-apiserver asks the same path
    assert.match((await get('/')).text, /"paths"/);
  });
});
