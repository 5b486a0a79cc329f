import assert from 'node:assert/strict';
import { bufferContent, startContentServer, startServer } from '../../support/servers/index.js';
import type { RunningServer } from '../../support/servers/index.js';
import { collect, fails } from '../source/open.js';
import { digestOf } from './images.js';
import { addressOf, assertDelivers } from './open.js';

import { BASIC, bearer, challenged, LOGIN, useGuarded } from './guarded-registry.js';

describe('authorization to a registry', () => {
  const { bench, layer, registry, redirecting, issuer } = useGuarded();
  const authorizations = (server: RunningServer) =>
    server.requests().map(({ path, headers }) => [path.replace(/\/sha256:.*$/u, ''), headers.authorization]);

  it('asks for one token, with credentials and scope, and uses it for everything', async () => {
    const from = await issuer(({ headers }) => headers.authorization === BASIC);
    const server = await registry({
      before: ({ headers }, response) =>
        headers.authorization !== 'Bearer sesame-0' && challenged(response, bearer(from)),
    });
    const { source } = await bench.open(addressOf(server), LOGIN);
    await assertDelivers(source);
    assert.deepEqual(
      from.server.requests().map(({ path }) => path),
      ['/token?sort=pull&service=a+registry&scope=repository%3Ateam%2Fdisk%3Apull&account=me'],
    );
    const [ping, ...rest] = authorizations(server);
    assert.deepEqual(ping, ['/v2/', undefined]);
    assert.ok(
      rest.length >= 4 && rest.every(([, header]) => header === 'Bearer sesame-0'),
      JSON.stringify(rest),
    );
  });

  it('asks for an anonymous token without credentials', async () => {
    const from = await issuer(
      ({ headers }) => headers.authorization === undefined,
      (token) => ({ access_token: token }),
    );
    const server = await registry({
      before: ({ headers }, response) =>
        headers.authorization !== 'Bearer sesame-0' && challenged(response, bearer(from)),
    });
    await assertDelivers((await bench.open(addressOf(server))).source);
    assert.equal(from.tokens.length, 1);
    assert.doesNotMatch(from.server.requests()[0]?.path ?? '', /account/u);
  });

  it('takes credentials out of a .dockerconfigjson', async () => {
    const server = await registry({
      before: ({ headers }, response) =>
        headers.authorization !== BASIC && challenged(response, 'Basic realm="x"'),
    });
    const auth = BASIC.slice('Basic '.length);
    const dockerConfig = JSON.stringify({ auths: { [`127.0.0.1:${server.port}`]: { auth } } });
    await assertDelivers((await bench.open(addressOf(server), { dockerConfig })).source);
    const another = JSON.stringify({ auths: { '127.0.0.1': { auth } } });
    const { source } = await bench.open(addressOf(server), { dockerConfig: another });
    await fails(source.probe(), 'SourceForbidden', /401 Unauthorized$/u);
  });

  it('answers Basic with user name and password, and tokens first where both are offered', async () => {
    const basic = await registry({
      before: ({ headers }, response) =>
        headers.authorization !== BASIC && challenged(response, 'Basic realm="x"'),
    });
    await assertDelivers((await bench.open(addressOf(basic), LOGIN)).source);
    const from = await issuer();
    const both = await registry({
      before: ({ headers }, response) =>
        headers.authorization !== 'Bearer sesame-0' &&
        challenged(response, ['Basic realm="x"', bearer(from)]),
    });
    await assertDelivers((await bench.open(addressOf(both), LOGIN)).source);
    assert.ok(authorizations(both).every(([, header]) => header !== BASIC));
  });

  it('learns from a manifest’s 401 what the ping did not say', async () => {
    const from = await issuer();
    const server = await registry({
      before: ({ url, headers }, response) =>
        url !== '/v2/' && headers.authorization !== 'Bearer sesame-0' && challenged(response, bearer(from)),
    });
    await assertDelivers((await bench.open(addressOf(server), LOGIN)).source);
  });

  for (const scheme of ['bearer', 'basic'])
    it(`learns from a blob’s 401 what neither ping nor manifest said: ${scheme}`, async () => {
      const from = await issuer(({ headers }) => headers.authorization === BASIC);
      const good = scheme === 'bearer' ? 'Bearer sesame-0' : BASIC;
      const challenge = scheme === 'bearer' ? bearer(from) : 'Basic realm="x"';
      const server = await registry({
        before: ({ url, headers }, response) =>
          url!.includes('/blobs/') && headers.authorization !== good && challenged(response, challenge),
      });
      await assertDelivers((await bench.open(addressOf(server), LOGIN)).source);
      assert.equal(from.tokens.length, scheme === 'bearer' ? 1 : 0);
      const { source } = await bench.open(addressOf(server));
      await fails(source.probe(), 'SourceForbidden', /401 Unauthorized/u);
    });

  it('gives the password to no challenge from elsewhere after a 401 of the registry that names none', async () => {
    const from = await issuer();
    const elsewhere = await bench.serve(
      startServer((_, response) => void challenged(response, bearer(from))),
    );
    const server = await registry({
      before: ({ url, headers }, response) => {
        if (!url!.includes('/manifests/')) return false;
        if (headers.authorization === undefined)
          response.writeHead(307, { location: `${elsewhere.url}/manifest` }).end();
        else response.writeHead(401).end();
        return true;
      },
    });
    const { source } = await bench.open(addressOf(server), LOGIN);
    await fails(source.probe(), 'SourceForbidden', /401 Unauthorized/u);
    assert.equal(from.tokens.length, 2);
    for (const { headers } of from.server.requests()) assert.equal(headers.authorization, undefined);
  });

  it('renews a token that is refused, at a manifest and in the middle of a blob', async () => {
    const from = await issuer();
    const used = new Set<string>();
    const server = await registry({
      before: ({ headers: { authorization = '' } }, response) => {
        // the first token is good for nothing, each other one for one request
        const good = /sesame-[1-9]/u.test(authorization) && !used.has(authorization);
        used.add(authorization);
        return !good && challenged(response, bearer(from));
      },
    });
    await assertDelivers((await bench.open(addressOf(server), LOGIN)).source);
    assert.ok(from.tokens.length >= 5, `${from.tokens.length} tokens`);
  });

  it('renews a token that has ended, before it is refused', async () => {
    const from = await issuer(undefined, (token) => ({ token, expires_in: 0 }));
    const server = await registry({
      before: ({ headers }, response) =>
        headers.authorization === undefined && challenged(response, bearer(from)),
    });
    const now = Date.now;
    try {
      const { source } = await bench.open(addressOf(server));
      await source.probe();
      assert.equal(from.tokens.length, 1, 'a token lives a minute although its server says nothing');
      Date.now = () => now() + 55_000;
      await collect(source.stream(0));
      assert.equal(from.tokens.length, 1, 'the stream that the probe began goes on');
      await collect(source.stream(0));
      assert.equal(from.tokens.length, 2);
    } finally {
      Date.now = now;
    }
  });

  for (const pipelining of [true, false])
    it(`asks for no other token while a blob comes from elsewhere, pipelining ${pipelining}`, async () => {
      let isAway = false;
      const now = Date.now;
      const cdn = await bench.serve(
        startContentServer(bufferContent(layer().blob), (index) => {
          if (index > 0) return {};
          isAway = true;
          Date.now = () => now() + 600_000;
          return { dropAfter: 500_000 };
        }),
      );
      const from = await issuer(() => !isAway);
      const server = await registry({
        before: ({ headers }, response) =>
          headers.authorization === undefined && challenged(response, bearer(from)),
        redirect: (digest) => (digest === digestOf(layer().blob) ? `${cdn.url}/blob?signature=x` : undefined),
      });
      try {
        await assertDelivers((await bench.open(addressOf(server), LOGIN, { pipelining })).source);
      } finally {
        Date.now = now;
      }
      assert.ok(isAway && cdn.requests().length > 1);
      assert.equal(from.server.requests().length, 1);
    });

  it('gives neither token nor password to where blobs are redirected', async () => {
    const cdn = await bench.serve(startContentServer(bufferContent(layer().blob)));
    for (const scheme of ['bearer', 'basic']) {
      const from = await issuer();
      const good = scheme === 'bearer' ? 'Bearer sesame-0' : BASIC;
      const server = await registry({
        before: ({ headers }, response) =>
          headers.authorization !== good &&
          challenged(response, scheme === 'bearer' ? bearer(from) : 'Basic realm="x"'),
        redirect: (digest) => (digest === digestOf(layer().blob) ? `${cdn.url}/blob?signature=x` : undefined),
      });
      await assertDelivers((await bench.open(addressOf(server), LOGIN)).source);
    }
    assert.ok(cdn.requests().length >= 4);
    for (const { headers } of cdn.requests()) assert.equal(headers.authorization, undefined);
  });

  it('gives the token to no other origin that a manifest is redirected to, and the password to no challenge from there', async () => {
    const thief = await issuer();
    const elsewhere = await registry({
      before: (_, response) => challenged(response, bearer(thief)),
    });
    const from = await issuer();
    const server = await redirecting(from, elsewhere);
    const { source } = await bench.open(addressOf(server), LOGIN);
    await fails(source.probe(), 'SourceForbidden', /^GET docker:\S+: 401 Unauthorized$/u);
    for (const { headers } of [...elsewhere.requests(), ...thief.server.requests()])
      assert.equal(headers.authorization, undefined);
    assert.ok(elsewhere.requests().length > 0 && thief.server.requests().length > 0);
  });

  it('gives the password to no server that the token server redirects to', async () => {
    const thief = await issuer();
    const from = await bench.serve(
      startServer(({ url }, response) => {
        response.writeHead(307, { location: `${thief.server.url}${url}` }).end();
      }),
    );
    const server = await registry({
      before: ({ headers }, response) =>
        headers.authorization === undefined && challenged(response, `Bearer realm="${from.url}/token"`),
    });
    await assertDelivers((await bench.open(addressOf(server), LOGIN)).source);
    assert.equal(from.requests()[0]?.headers.authorization, BASIC);
    assert.equal(thief.server.requests()[0]?.headers.authorization, undefined);
  });
});
