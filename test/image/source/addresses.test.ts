import assert from 'node:assert/strict';
import { createAddressGuard } from '../../../activities/image/source/addresses.js';
import { bufferContent, startContentServer, startRedirectServer } from '../../support/servers/index.js';
import { BYTES, fails, useBench } from './open.js';

const NOBODY = { allowed: [], denied: [] };

describe('address policy', () => {
  const bench = useBench();

  for (const [reason, ...addresses] of [
    [
      'loopback',
      '127.0.0.1',
      '127.255.0.9',
      '::1',
      '::ffff:127.0.0.1',
      '::ffff:7f00:1',
      '64:ff9b::127.0.0.1',
    ],
    ['link-local', '169.254.169.254', 'fe80::1', 'fe80::1%eth0', '::ffff:a9fe:a9fe', '::169.254.169.254'],
    ['unspecified', '0.0.0.0', '0.1.2.3', '::', '::ffff:0.0.0.0'],
    ['multicast', '224.0.0.1', '239.1.2.3', 'ff02::1'],
    ['broadcast', '255.255.255.255'],
  ] as const) {
    it(`refuses ${reason}`, () => {
      const guard = createAddressGuard(NOBODY);
      for (const address of addresses) assert.equal(guard.refusal(address), reason, address);
    });
  }

  it('lets other addresses through', () => {
    const guard = createAddressGuard(NOBODY);
    for (const address of [
      '8.8.8.8',
      '10.0.0.1',
      '192.168.1.1',
      '2001:db8::1',
      '::ffff:8.8.8.8',
      'fd00::1',
    ]) {
      assert.equal(guard.refusal(address), undefined, address);
    }
  });

  it('refuses what operators deny, in every spelling, and lets through what they allow', () => {
    const guard = createAddressGuard({
      allowed: ['127.0.0.1', 'fe80::/16'],
      denied: ['10.1.0.0/16', '127.0.0.0/8'],
    });
    assert.equal(guard.refusal('10.1.2.3'), 'denied by the operator');
    assert.equal(guard.refusal('::ffff:10.1.2.3'), 'denied by the operator');
    assert.equal(guard.refusal('10.2.2.3'), undefined);
    assert.equal(guard.refusal('127.0.0.1'), undefined);
    assert.equal(guard.refusal('::ffff:127.0.0.1'), undefined);
    assert.equal(guard.refusal('127.0.0.2'), 'denied by the operator');
    assert.equal(guard.refusal('fe80::2'), undefined);
  });

  it('has no defaults for callers with their own rights, but their denials', () => {
    const guard = createAddressGuard({ ...NOBODY, denied: ['169.254.0.0/16'], unrestricted: true });
    assert.equal(guard.refusal('127.0.0.1'), undefined);
    assert.equal(guard.refusal('169.254.169.254'), 'denied by the operator');
  });

  it('refuses CIDRs that are none', () => {
    for (const cidr of ['', 'localhost', '10.0.0.0/33', '10.0.0.0/a', '::/129', '10.0.0.0/-1']) {
      assert.throws(() => createAddressGuard({ ...NOBODY, denied: [cidr] }), /not an address or CIDR/u, cidr);
    }
  });

  for (const host of [
    '127.0.0.1',
    'localhost',
    '2130706433',
    '0x7f000001',
    '0177.0.0.1',
    '127.1',
    '[::ffff:127.0.0.1]',
    '[::1]',
    '0.0.0.0',
  ]) {
    it(`connects to no server at ${host}`, async () => {
      const server = await bench.serve(startContentServer(bufferContent(BYTES)));
      const { source } = bench.open(`http://${host}:${server.port}/`, {}, { policy: NOBODY });
      await fails(source.probe(), 'SourceNotAllowed', /are refused: \S+ \((loopback|unspecified)\)/u);
      assert.equal(server.connections(), 0);
    });
  }

  it('judges the targets of redirects', async () => {
    const policy = { allowed: ['127.0.0.1'], denied: [] };
    const metadata = await bench.serve(startRedirectServer(() => 'http://169.254.169.254/latest/meta-data'));
    await fails(
      bench.open(metadata.url, {}, { policy }).source.probe(),
      'SourceNotAllowed',
      /169\.254\.169\.254 \(link-local\)/u,
    );
    const file = await bench.serve(startRedirectServer(() => 'file:///etc/passwd'));
    await fails(
      bench.open(file.url, {}, { policy }).source.probe(),
      'SourceNotAllowed',
      /redirect to a scheme that is neither/u,
    );
  });
});
