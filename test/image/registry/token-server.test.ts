import assert from 'node:assert/strict';
import { fails } from '../source/open.js';
import { addressOf } from './open.js';

import { bearer, challenged, LOGIN, useGuarded } from './guarded-registry.js';

describe('token servers of a registry', () => {
  const { bench, registry, secured, issuer } = useGuarded();

  it('asks no token server at a refused address', async () => {
    const from = await issuer();
    const server = await registry({
      before: (_, response) => challenged(response, `Bearer realm="http://[::1]:${from.server.port}/token"`),
    });
    const { source } = await bench.open(addressOf(server), LOGIN);
    await fails(source.probe(), 'SourceNotAllowed', /^connections to ::1 are refused: ::1 \(loopback\)/u);
  });

  it('asks no token server without TLS for a registry with it', async () => {
    const from = await issuer();
    const { url, trusted, policy } = await secured(from);
    const { source } = await bench.open(url, { ...LOGIN, ...trusted }, { policy });
    await fails(source.probe(), 'SourceNotAllowed', /which is not protected by TLS$/u);
    assert.equal(from.server.connections(), 0);
  });

  for (const [what, realm] of [
    ['a file', 'file:///etc/passwd'],
    ['nothing', ''],
    ['no URL', 'sesame'],
  ] as const)
    it(`asks for no token from ${what}`, async () => {
      const server = await registry({
        before: (_, response) => challenged(response, `Bearer realm="${realm}"`),
      });
      const { source } = await bench.open(addressOf(server), LOGIN);
      await fails(source.probe(), 'SourceUnavailable', /names a token server that is no http or https URL$/u);
    });

  for (const [what, answer] of [
    ['no token', () => ({ details: 'sesame' })],
    ['a token that is no header', () => ({ token: 'a\r\nb' })],
    ['a number', () => 5],
  ] as const)
    it(`is unavailable where the token server answers ${what}`, async () => {
      const from = await issuer(undefined, answer);
      const server = await registry({ before: (_, response) => challenged(response, bearer(from)) });
      const { source } = await bench.open(addressOf(server));
      await fails(source.probe(), 'SourceUnavailable', /^GET http:\S+\/token: the answer holds no token$/u);
    });

  it('is SourceForbidden where the token server refuses', async () => {
    const from = await issuer(() => false);
    const server = await registry({ before: (_, response) => challenged(response, bearer(from)) });
    const { source } = await bench.open(addressOf(server), LOGIN);
    await fails(source.probe(), 'SourceForbidden', /^GET http:\S+\/token: 401 Unauthorized$/u);
  });

  it('is SourceForbidden where every token is refused, after three', async () => {
    const from = await issuer();
    const server = await registry({ before: (_, response) => challenged(response, bearer(from)) });
    const { source } = await bench.open(addressOf(server), LOGIN);
    await fails(source.probe(), 'SourceForbidden', /^GET docker:\S+\/team\/disk:v1: 401 Unauthorized$/u);
    assert.equal(from.tokens.length, 3);
  });
});
