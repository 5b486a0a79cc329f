import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { inspect } from 'node:util';
import { startRedirectServer, startServer } from '../../support/servers/index.js';
import { EMAIL, privateKey, readsAll, useGcs } from './gcs.js';
import { BYTES, fails } from './open.js';

describe('credentials of a GCS source', () => {
  const gcs = useGcs();
  const { bench, tokens, serve, serveTokens, open, keyFor } = gcs;

  it('is read with the token of a service account, which is asked for once', async () => {
    const [server, tokenServer] = [await serve({ tokens }), await serveTokens()];
    const opened = await open(`${server.url}/images/disk.img`, { credentials: keyFor(tokenServer) });
    await readsAll(opened);
    assert.equal(tokenServer.requests().length, 1);
    assert.ok(server.requests().every(({ headers }) => headers.authorization === 'Bearer sesame-0'));
  });

  it('asks for another token when one has ended, and when one is refused before its time', async () => {
    const server = await serve({ tokens });
    const short = await serveTokens({ lifetime: 1 });
    await readsAll(await open(`${server.url}/images/disk.img`, { credentials: keyFor(short) }));
    assert.ok(short.requests().length > 1);

    const long = await serveTokens();
    const { source } = await open(`${server.url}/images/disk.img`, { credentials: keyFor(long) });
    await source.probe();
    tokens.clear();
    const target = Buffer.alloc(100);
    await source.readInto(5, target);
    assert.ok(target.equals(BYTES.subarray(5, 105)));
    assert.equal(long.requests().length, 2);
  });

  it('is refused when the account is', async () => {
    const [server, tokenServer] = [await serve({ tokens }), await serveTokens()];
    const credentials = keyFor(tokenServer, { client_email: 'you@project.iam.gserviceaccount.com' });
    const { source } = await open(`${server.url}/images/disk.img`, { credentials });
    const error = await fails(
      source.probe(),
      'SourceForbidden',
      /^POST http:\S+\/token: 400 Bad Request for/u,
    );
    assert.doesNotMatch(inspect(error, { depth: 10 }), /SECRET-BODY|BEGIN PRIVATE/u);
    assert.equal(server.requests().length, 0);
  });

  it('sends what it signs to no address that is refused, and follows no redirect with it', async () => {
    const [server, tokenServer] = [await serve({ tokens }), await serveTokens()];
    const policy = { allowed: ['127.0.0.1'], denied: [] };
    const hop = await bench.serve(startRedirectServer(() => `${tokenServer.url}/token`, { status: 307 }));
    for (const [tokenUri, type] of [
      ['http://169.254.169.254/token', 'SourceNotAllowed'],
      ['http://[::ffff:169.254.169.254]/token', 'SourceNotAllowed'],
      [`http://127.0.0.2:${tokenServer.port}/token`, 'SourceNotAllowed'],
      [hop.url, 'SourceForbidden'],
    ] as const) {
      const credentials = keyFor(tokenServer, { token_uri: tokenUri });
      const { source } = await open(`${server.url}/images/disk.img`, { credentials }, { policy });
      await fails(source.probe(), type, /are refused: \S+ \((link-local|loopback)\)|307 Temporary Redirect/u);
    }
    assert.equal(tokenServer.connections(), 0);
  });

  for (const [what, answer, type] of [
    ['endless', () => '{'.repeat(1_000_000), 'SourceUnavailable'],
    ['no JSON', () => 'SECRET-BODY-OF-AN-ERROR-PAGE', 'SourceForbidden'],
    ['no token', () => '{}', 'SourceForbidden'],
    ['a header', () => '{"access_token":"sesame\\r\\nx-y: z"}', 'SourceForbidden'],
  ] as const) {
    it(`takes ${what} of a token endpoint for no token`, async () => {
      const server = await serve({ tokens });
      const odd = await bench.serve(startServer((_request, response) => void response.end(answer())));
      const { source } = await open(`${server.url}/images/disk.img`, { credentials: keyFor(odd) });
      await fails(source.probe(), type, /answers more than 262144 bytes|and no token$/u);
      assert.equal(server.requests().length, 0);
    });
  }

  it('gives its token to no server that it is redirected to', async () => {
    const elsewhere = await serve();
    const origin = await bench.serve(
      startServer(async ({ url = '' }, response) => {
        if (url.includes('alt=media')) response.writeHead(302, { location: `${elsewhere.url}${url}` }).end();
        else response.end(await (await fetch(`${gcs.store.url}${url}`)).text());
      }),
    );
    const credentials = keyFor(await serveTokens());
    await readsAll(await open(`${origin.url}/images/disk.img`, { credentials }));
    assert.ok(origin.requests().every(({ headers }) => headers.authorization === 'Bearer sesame-0'));
    for (const { headers } of elsewhere.requests()) assert.equal(headers.authorization, undefined);
  });

  for (const [what, credentials] of [
    ['no JSON', 'pass-word'],
    ['no object', '"pass-word"'],
    [
      'an account of another kind',
      '{"type":"external_account","credential_source":{"file":"/etc/pass-word"}}',
    ],
    ['no email', '{"type":"service_account"}'],
    ['no private key', JSON.stringify({ client_email: EMAIL, private_key: 'pass-word' })],
    ['a key of another kind', JSON.stringify({ client_email: EMAIL, private_key: ecKey() })],
    [
      'a token endpoint of another kind',
      JSON.stringify({ client_email: EMAIL, private_key: privateKey, token_uri: 'file:///etc/pass-word' }),
    ],
  ] as const) {
    it(`refuses a key with ${what}`, async () => {
      const error = await fails(
        open('gs://images/disk.img', { credentials }),
        'InvalidDataVolume',
        /^credentials\.json for GCS: they /u,
      );
      assert.doesNotMatch(inspect(error, { depth: 10 }), /BEGIN/u);
    });
  }
});

function ecKey(): string {
  return generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  }).privateKey;
}
