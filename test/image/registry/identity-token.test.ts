import assert from 'node:assert/strict';
import { startServer } from '../../support/servers/index.js';
import { collect, fails } from '../source/open.js';
import { bearer, challenged, IDENTITY, identityConfig, useGuarded, type Issuer } from './guarded-registry.js';
import { addressOf, assertDelivers } from './open.js';

describe('the identity token of a login', () => {
  const { bench, registry, redirecting, secured, exchange, issuer } = useGuarded();

  /** A registry that takes the tokens of one server. */
  const guardedBy = (from: Issuer) =>
    registry({
      before: ({ headers }, response) =>
        !from.tokens.some((token) => headers.authorization === `Bearer ${token}`) &&
        challenged(response, bearer(from)),
    });

  it('is exchanged for one token, with service and scope, and goes nowhere else', async () => {
    const from = await exchange();
    const server = await guardedBy(from);
    const { source } = await bench.open(addressOf(server), { dockerConfig: identityConfig(server) });
    await assertDelivers(source);
    assert.deepEqual(from.forms, [
      {
        grant_type: 'refresh_token',
        client_id: 'dvflow',
        service: 'a registry',
        scope: 'repository:team/disk:pull',
        refresh_token: IDENTITY,
      },
    ]);
    const [asked] = from.server.requests();
    assert.equal(asked?.path, '/token?sort=pull');
    assert.equal(asked.headers.authorization, undefined);
    assert.equal(asked.headers['content-type'], 'application/x-www-form-urlencoded');
    for (const { headers } of server.requests().slice(1))
      assert.equal(headers.authorization, 'Bearer sesame-0');
  });

  it('is exchanged again when the token has ended', async () => {
    const from = await exchange(undefined, 0);
    const server = await guardedBy(from);
    const { source } = await bench.open(addressOf(server), { dockerConfig: identityConfig(server) });
    await collect(source.stream(0));
    const now = Date.now;
    try {
      Date.now = () => now() + 55_000;
      await collect(source.stream(0));
    } finally {
      Date.now = now;
    }
    assert.equal(from.tokens.length, 2);
  });

  it('is exchanged at a server that is busy for a while', async () => {
    const from = await exchange((index) => (index === 0 ? 503 : 200));
    const server = await guardedBy(from);
    const { source, notices } = await bench.open(addressOf(server), { dockerConfig: identityConfig(server) });
    await assertDelivers(source);
    assert.match(notices.join('\n'), /^reconnecting: POST http:\S+\/token: 503 Service Unavailable/mu);
  });

  for (const [status, message] of [
    [400, /\/token: 400 Bad Request for .*: it may have ended: log in again, or use a user name/u],
    [404, /\/token: 404 Not Found for .*: this token server takes none, or use a user name/u],
    [405, /^POST http:\S+\/token: 405 Method Not Allowed for the identity token of a login: this token/u],
  ] as const)
    it(`is SourceForbidden where the token server answers ${status} to it`, async () => {
      const server = await guardedBy(await exchange(() => status));
      const { source } = await bench.open(addressOf(server), { dockerConfig: identityConfig(server) });
      await fails(source.probe(), 'SourceForbidden', message);
    });

  it('is given to no challenge from where a manifest is redirected to', async () => {
    const thief = await exchange();
    const elsewhere = await registry({ before: (_, response) => challenged(response, bearer(thief)) });
    const from = await exchange();
    const server = await redirecting(from, elsewhere);
    const { source } = await bench.open(addressOf(server), { dockerConfig: identityConfig(server) });
    await fails(source.probe(), 'SourceForbidden', /^GET \S+\/token: 401 Unauthorized$/u);
    assert.ok(thief.forms.length > 0 && thief.forms.every((form) => form['refresh_token'] === undefined));
  });

  it('is given to no server that the token server redirects to', async () => {
    const thief = await exchange();
    const from = await bench.serve(
      startServer((_, response) => {
        response.writeHead(307, { location: `${thief.server.url}/token` }).end();
      }),
    );
    const server = await registry({
      before: (_, response) => challenged(response, `Bearer realm="${from.url}/token"`),
    });
    const { source } = await bench.open(addressOf(server), { dockerConfig: identityConfig(server) });
    await fails(source.probe(), 'SourceForbidden', /\/token: 307 Temporary Redirect/u);
    assert.equal(thief.server.connections(), 0);
  });

  it('is given to no token server without TLS for a registry with it', async () => {
    const from = await exchange();
    const { server, url, trusted, policy } = await secured(from);
    const dockerConfig = identityConfig(server).replace('127.0.0.1', 'localhost');
    const { source } = await bench.open(url, { dockerConfig, ...trusted }, { policy });
    await fails(source.probe(), 'SourceNotAllowed', /which is not protected by TLS$/u);
    assert.equal(from.server.connections(), 0);
  });

  it('is no password: a registry that wants one is SourceForbidden', async () => {
    const server = await registry({ before: (_, response) => challenged(response, 'Basic realm="x"') });
    const { source } = await bench.open(addressOf(server), { dockerConfig: identityConfig(server) });
    await fails(source.probe(), 'SourceForbidden', /401 Unauthorized$/u);
    for (const { headers } of server.requests()) assert.equal(headers.authorization, undefined);
  });

  it('is of no use beside a user name and a password', async () => {
    const from = await issuer();
    const server = await guardedBy(from);
    const { auths } = JSON.parse(identityConfig(server)) as { auths: Record<string, object> };
    for (const key of Object.keys(auths)) auths[key] = { ...auths[key], username: 'me', password: 'x' };
    const { source } = await bench.open(addressOf(server), { dockerConfig: JSON.stringify({ auths }) });
    await assertDelivers(source);
    assert.equal(from.server.requests()[0]?.method, 'GET');
  });
});
