import assert from 'node:assert/strict';
import { DetailedError } from 'tus-js-client';
import { CliError } from '../../cli/errors.js';
import { faultOf, PATIENCE, reasonOf, verdictOf, type Circumstances } from '../../cli/upload/verdict.js';

interface Answer {
  readonly status: number;
  /** Of whoever stands before the gateway. */
  readonly foreign?: boolean;
  readonly method?: string;
  readonly body?: string;
}

const request = (method: string) => ({
  getMethod: () => method,
  getURL: () => 'https://gateway.test/tus/uploads',
});

function answer({ status, foreign = false, method = 'PATCH', body = '' }: Answer): Error {
  const headers = foreign ? {} : { 'Tus-Resumable': '1.0.0' };
  const getHeader = (name: string): string | undefined => (headers as Record<string, string>)[name];
  return Object.assign(new DetailedError('tus: unexpected response'), {
    originalRequest: request(method),
    originalResponse: { getStatus: () => status, getHeader, getBody: () => body },
    causingError: null,
  });
}

function broken(code: unknown, message = String(code), more: object = {}): Error {
  return Object.assign(new DetailedError('tus: failed to upload'), {
    originalRequest: request('POST'),
    originalResponse: null,
    causingError: Object.assign(new Error(message), { code, ...more }),
  });
}

/** An answer of kube-apiserver. */
function refused(code: number, message = String(code)): Error {
  return broken(code, `HTTP-Code: ${code}`, { body: JSON.stringify({ kind: 'Status', message }) });
}

/** What `AbortSignal.timeout` ends a call with: its code is a number. */
function late(): Error {
  return Object.assign(broken(23), {
    causingError: new DOMException('The operation was aborted due to timeout', 'TimeoutError'),
  });
}

const at = (more: Partial<Circumstances> = {}): Circumstances => ({
  endpoint: 'https://gateway.test/tus/uploads',
  alike: 1,
  met: false,
  known: false,
  ...more,
});

/** The try, counted from 1 and like all before it, that is the last one; `never` after many. */
function lastTry(error: unknown, more: Partial<Circumstances> = {}): number | 'never' {
  for (let alike = 1; alike <= 100; alike += 1)
    if (verdictOf(error, at({ ...more, alike })).final) return alike;
  return 'never';
}

function finalMessage(error: unknown): string {
  return verdictOf(error, at({ alike: 100 })).final?.message ?? '';
}

describe('the verdict on a try of an upload', () => {
  for (const [last, statuses] of [
    [1, [300, 304, 400, 402, 403, 404, 405, 410, 411, 412, 413, 414, 415, 422, 426, 431, 451, 501, 505]],
    [3, [401]],
    [PATIENCE, [200, 201, 204, 409]],
    ['never', [408, 421, 423, 425, 429, 500, 502, 503, 504, 507]],
  ] as const)
    it(`is final at ${last === 'never' ? 'no try' : `try ${last}`} for HTTP ${statuses.join(', ')}`, () => {
      for (const status of statuses) assert.equal(lastTry(answer({ status })), last, `${status}`);
    });

  it('is final for a host without an address when a network had time to come up, not for one that is away', () => {
    const missing = broken('ENOTFOUND', 'getaddrinfo ENOTFOUND gateway.test', { hostname: 'gateway.test' });
    assert.equal(lastTry(missing), PATIENCE);
    assert.match(finalMessage(missing), /^no address is known for gateway\.test \(ENOTFOUND\)/u);
    for (const code of [
      'ECONNREFUSED',
      'ECONNRESET',
      'EPIPE',
      'ETIMEDOUT',
      'EHOSTUNREACH',
      'ENETUNREACH',
      'EAI_AGAIN',
    ])
      assert.equal(lastTry(broken(code)), 'never', code);
    assert.equal(lastTry(new Error('whatever')), 'never');
  });

  it('is final at once for a server that is not the one meant, and for what cannot be sent', () => {
    for (const error of [
      broken('EPROTO', 'write EPROTO 0:error:0A00010B:SSL routines:ssl3_get_record:wrong version number'),
      broken('ERR_SSL_PACKET_LENGTH_TOO_LONG'),
      broken('DEPTH_ZERO_SELF_SIGNED_CERT', 'self-signed certificate'),
      broken('ERR_TLS_CERT_ALTNAME_INVALID'),
      broken('ERR_INVALID_PROTOCOL'),
      new CliError('disk.img cannot be read: ENOENT', 3),
    ])
      assert.equal(lastTry(error), 1, error.message);
  });

  it('is final for a handshake that goes on failing, and for a server that speaks no HTTP', () => {
    assert.equal(lastTry(broken('EPROTO', 'ssl/tls alert handshake failure')), PATIENCE);
    assert.equal(lastTry(broken('HPE_INVALID_CONSTANT')), PATIENCE);
    assert.equal(lastTry(broken('HPE_INVALID_EOF_STATE')), 'never');
  });

  it('is that of kube-apiserver where no token is to be had', () => {
    const forbidden = refused(403, 'uploadtokenrequests is forbidden');
    assert.equal(lastTry(forbidden), 1);
    assert.equal(verdictOf(forbidden, at()).final, (forbidden as DetailedError).causingError);
    assert.equal(lastTry(refused(503)), 'never');
  });

  it('is no end where kube-apiserver says nothing in time', () => {
    assert.equal(lastTry(late()), 'never');
    assert.equal(lastTry(late(), { met: true }), 'never');
  });

  it('makes another upload of one that is gone, but not for ever', () => {
    const known = at({ known: true });
    for (const status of [404, 410]) {
      assert.deepEqual(verdictOf(answer({ status }), known), { forget: true, final: undefined });
      assert.equal(lastTry(answer({ status }), known), PATIENCE);
    }
    assert.equal(verdictOf(answer({ status: 403, method: 'HEAD' }), known).forget, true);
    assert.equal(verdictOf(answer({ status: 403 }), known).forget, false);
    assert.equal(verdictOf(answer({ status: 308, method: 'HEAD', foreign: true }), known).forget, false);
  });

  it('forgets no upload at the word of whoever stands before the gateway', () => {
    const known = at({ known: true });
    for (const status of [404, 410]) {
      const missing = answer({ status, method: 'HEAD', foreign: true });
      assert.deepEqual(verdictOf(missing, known), { forget: false, final: undefined });
      assert.equal(lastTry(missing, known), PATIENCE);
      assert.equal(verdictOf(missing, at({ known: true, alike: PATIENCE })).forget, false);
    }
  });

  it('is no end where the gateway has answered before, over the same way', () => {
    const met = { met: true };
    const missing = broken('ENOTFOUND', 'getaddrinfo ENOTFOUND gateway.test', { hostname: 'gateway.test' });
    assert.equal(lastTry(missing, met), 'never');
    assert.equal(lastTry(broken('EPROTO', 'ssl/tls alert handshake failure'), met), 'never');
    assert.equal(lastTry(refused(403, 'uploadtokenrequests is forbidden'), met), PATIENCE);
    // of kube-apiserver, which was found before
    assert.equal(lastTry(broken('ENOTFOUND', 'getaddrinfo ENOTFOUND api.test')), 'never');
  });

  it('counts what breaks off alike', () => {
    const faults = [
      broken('ECONNREFUSED'),
      broken('ENOTFOUND'),
      refused(403),
      late(),
      answer({ status: 503 }),
      answer({ status: 409 }),
      new Error('whatever'),
    ].map(faultOf);
    assert.equal(new Set(faults).size, faults.length);
    assert.equal(faultOf(answer({ status: 503 })), faultOf(answer({ status: 503, method: 'HEAD' })));
  });

  it('says in a few words what kube-apiserver has answered, so that it says it once', () => {
    assert.equal(reasonOf(refused(503)), 'Kubernetes does not answer (HTTP 503)');
    assert.equal(reasonOf(late()), 'Kubernetes does not answer (nothing in 20 s)');
    assert.equal(reasonOf(refused(403, 'it is forbidden')), 'it is forbidden');
    assert.equal(reasonOf(broken('ECONNREFUSED', 'connect ECONNREFUSED')), 'connect ECONNREFUSED');
  });

  it('says the words of the gateway, and no page of what stands before it', () => {
    assert.equal(reasonOf(answer({ status: 400, body: 'the file is empty\n' })), 'the file is empty');
    assert.equal(finalMessage(answer({ status: 404, body: '<html>…' })), 'the upload was refused: HTTP 404');
  });
});
