import assert from 'node:assert/strict';
import { failureTypeOf } from '../../../activities/failures.js';
import { networkFailure, retryAfterMs } from '../../../activities/image/source/http-failures.js';
import type { FailureType } from '../../../activities/types.js';
import {
  bufferContent,
  createAuthority,
  createSelfSigned,
  startContentServer,
  startNoiseServer,
  startResettingServer,
  startServer,
  startStatusServer,
} from '../../support/servers/index.js';
import type { TestAuthority } from '../../support/servers/index.js';
import { BYTES, collect, fails, useBench } from './open.js';

describe('failures of an HTTP source', () => {
  const bench = useBench();
  let authority: TestAuthority;
  before(async () => {
    authority = await createAuthority();
  });

  for (const [status, type] of [
    [404, 'SourceNotFound'],
    [410, 'SourceNotFound'],
    [401, 'SourceForbidden'],
    [403, 'SourceForbidden'],
    [400, 'SourceForbidden'],
    [405, 'SourceForbidden'],
    [407, 'SourceForbidden'],
    [408, 'SourceUnavailable'],
    [421, 'SourceUnavailable'],
    [425, 'SourceUnavailable'],
    [429, 'SourceUnavailable'],
    [500, 'SourceUnavailable'],
    [502, 'SourceUnavailable'],
    [503, 'SourceUnavailable'],
    [599, 'SourceUnavailable'],
    [202, 'SourceUnavailable'],
    [204, 'SourceNotFound'],
    [304, 'SourceNotFound'],
    [302, 'SourceNotFound'],
  ] as const satisfies readonly (readonly [number, FailureType])[]) {
    it(`${status} is ${type}`, async () => {
      const server = await bench.serve(startStatusServer(status));
      const { source } = bench.open(`${server.url}/disk?signature=1`, {
        username: 'me',
        password: 'pass-word',
      });
      await fails(source.probe(), type, new RegExp(`^GET ${server.url}/disk: ${status} `, 'u'));
    });
  }

  it('refused connections, resets, noise and unknown names are SourceUnavailable', async () => {
    const gone = await startStatusServer(200);
    await gone.close();
    await fails(
      bench.open(gone.url).source.probe(),
      'SourceUnavailable',
      /connection refused \(ECONNREFUSED\)$/u,
    );
    const resets = await bench.serve(startResettingServer());
    await fails(
      bench.open(resets.url).source.probe(),
      'SourceUnavailable',
      /connection reset \(ECONNRESET\)$/u,
    );
    const noise = await bench.serve(startNoiseServer());
    await fails(
      bench.open(noise.url).source.probe(),
      'SourceUnavailable',
      /: server breaks the rules of HTTP: Expected HTTP\/[^()]* \(HPE_\w+\)$/u,
    );
    await fails(
      bench.open('http://no-such-host.invalid/').source.probe(),
      'SourceUnavailable',
      /(host name not found|name server did not answer) \((ENOTFOUND|EAI_AGAIN)\)$/u,
    );
  });

  it('headers that are too large are SourceUnavailable', async () => {
    const server = await bench.serve(
      startServer(
        (_request, response) => void response.writeHead(200, { 'x-large': 'x'.repeat(70_000) }).end(),
      ),
    );
    await fails(bench.open(server.url).source.probe(), 'SourceUnavailable', /headers are larger/u);
  });

  it('trusts a CA that the DataVolume brings, on each connection', async () => {
    const tls = await authority.issue(['localhost']);
    const server = await bench.serve(
      startContentServer(bufferContent(BYTES), (index) => (index === 1 ? { dropAfter: 900_000 } : {}), {
        tls,
      }),
    );
    const { source } = bench.open(server.url, { ca: authority.ca });
    assert.ok((await collect(source.stream(0))).equals(BYTES));
    await source.readInto(3, Buffer.alloc(5));
  });

  it('refuses certificates of unknown authorities, of other hosts, and of yesterday', async () => {
    const serve = async (tls: { key: string; cert: string }) =>
      (await bench.serve(startContentServer(bufferContent(BYTES), {}, { tls }))).url;
    const own = await serve(await createSelfSigned(['localhost']));
    await refused(own, {}, /not valid: self-signed certificate \(DEPTH_ZERO_SELF_SIGNED_CERT\)$/u);
    const unknown = await serve(await authority.issue(['localhost']));
    await refused(unknown, {}, /\((UNABLE_TO_VERIFY_LEAF_SIGNATURE|UNABLE_TO_GET_ISSUER_CERT_LOCALLY)\)$/u);
    const other = await serve(await authority.issue(['elsewhere.example']));
    await refused(other, { ca: authority.ca }, /\(ERR_TLS_CERT_ALTNAME_INVALID\)$/u);
    const old = await serve(await authority.issue(['localhost'], { expired: true }));
    await refused(old, { ca: authority.ca }, /\(CERT_HAS_EXPIRED\)$/u);
    await bench.open(old, { insecureSkipVerify: true }).source.probe();
    await bench.open(own, { insecureSkipVerify: true }).source.probe();
  });

  it('refuses certificates that OpenSSL finds too weak, with its reason', async () => {
    for (const [weak, reason] of [
      ['key', 'EE certificate key too weak'],
      ['digest', 'CA signature digest algorithm too weak'],
    ] as const) {
      const tls = await authority.issue(['localhost'], { weak });
      const { url } = await bench.serve(startContentServer(bufferContent(BYTES), {}, { tls }));
      const { source } = bench.open(url, { ca: authority.ca });
      const error: unknown = await source.probe().catch((failure: unknown) => failure);
      assert.equal(failureTypeOf(error), 'SourceCertificateInvalid');
      assert.equal(
        (error as Error).message,
        `GET ${url}/: server certificate is not valid: ${reason} (UNSPECIFIED)`,
      );
    }
  });

  it('asks no server again that wants a client certificate', async () => {
    const tls = { ...(await authority.issue(['localhost'])), clientAuthority: authority.ca };
    const { url } = await bench.serve(startContentServer(bufferContent(BYTES), {}, { tls }));
    await refused(
      url,
      { ca: authority.ca },
      /server wants a client certificate, and dvflow has none \(\w+\)$/u,
    );
  });

  async function refused(url: string, request: { ca?: string }, message: RegExp): Promise<void> {
    await fails(bench.open(url, request).source.probe(), 'SourceCertificateInvalid', message);
  }

  it('refuses a CA bundle that is none', async () => {
    for (const ca of ['', 'not PEM', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n']) {
      await fails(
        (async () => bench.open('https://localhost', { ca }))(),
        'InvalidDataVolume',
        /^CA bundle/u,
      );
    }
  });

  it('says so when the server does not speak TLS', async () => {
    const server = await bench.serve(startStatusServer(200));
    const url = server.url.replace('http:', 'https:');
    await fails(bench.open(url).source.probe(), 'SourceUnavailable', /TLS|connection/u);
  });

  it('tells certificate codes from others', () => {
    const failure = (code: string) => networkFailure(Object.assign(new Error('x'), { code }), 'http://h/');
    for (const code of [
      'CERT_NOT_YET_VALID',
      'SELF_SIGNED_CERT_IN_CHAIN',
      'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
      'INVALID_CA',
      'UNSPECIFIED',
    ]) {
      assert.equal(failureTypeOf(failure(code)), 'SourceCertificateInvalid', code);
    }
    for (const code of ['ECONNRESET', 'EPROTO', 'ERR_SSL_WRONG_VERSION_NUMBER', 'ETIMEDOUT']) {
      assert.equal(failureTypeOf(failure(code)), 'SourceUnavailable', code);
    }
  });

  it('reads Retry-After in seconds and as a date', () => {
    const read = (text: string) => retryAfterMs({ 'retry-after': text });
    assert.equal(read('7'), 7000);
    assert.equal(read('99999999'), 3_600_000);
    assert.equal(read('Thu, 01 Jan 1970 00:00:00 GMT'), 0);
    assert.equal(read('soon'), undefined);
    assert.ok((read(new Date(Date.now() + 60_000).toUTCString()) ?? 0) > 50_000);
  });
});
