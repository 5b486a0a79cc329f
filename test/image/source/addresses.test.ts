import assert from 'node:assert/strict';
import { createAddressGuard, serverNameOf } from '../../../activities/image/source/addresses.js';
import { bufferContent, startContentServer, startRedirectServer } from '../../support/servers/index.js';
import { BYTES, fails, useBench } from './open.js';

const NOBODY = { allowed: [], denied: [] };

it('the name of a TLS server is its host, without the dot of a full name, and none for an address', () => {
  const names = ['a.example.', 'a.example', '127.0.0.1', '[::1]'].map(serverNameOf);
  assert.deepEqual(names, ['a.example', 'a.example', '', '']);
});

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
    [
      'link-local',
      '169.254.169.254',
      'fe80::1',
      'fe80::1%eth0',
      '::ffff:a9fe:a9fe',
      '::169.254.169.254',
      '::ffff:0:169.254.169.254',
      '2002:a9fe:a9fe::1',
      // NAT64 by prefixes of 48, 56, 64 and 96 bits
      '64:ff9b:1:a9fe:a9:fe00::',
      '64:ff9b:1:aba9:fe:a9fe::',
      '64:ff9b:1:abcd:a9:fea9:fe00:0',
      '64:ff9b:1::a9fe:a9fe',
    ],
    [
      'metadata service',
      '100.100.100.200',
      '168.63.129.16',
      '192.0.0.192',
      'fd00:ec2::254',
      'fd00:ec2::23',
      'fd20:ce::254',
      '::ffff:168.63.129.16',
      '64:ff9b::100.100.100.200',
      '2002:a83f:8110::',
    ],
    ['unspecified', '0.0.0.0', '0.1.2.3', '::', '::ffff:0.0.0.0'],
    ['multicast', '224.0.0.1', '239.1.2.3', 'ff02::1'],
    ['broadcast', '255.255.255.255'],
  ] as const) {
    it(`refuses ${reason}`, () => {
      const guard = createAddressGuard(NOBODY);
      for (const address of addresses) assert.equal(guard.refusal(address), reason, address);
    });
  }

  it('takes unspecified addresses for loopback, where they lead, once that is denied', () => {
    const guardOf = (...denied: string[]) => createAddressGuard({ allowed: [], denied, unrestricted: true });
    for (const [cidr, ...addresses] of [
      ['127.0.0.0/8', '127.0.0.1', '0.0.0.0', '::', '::ffff:0.0.0.0', '::ffff:127.0.0.1'],
      ['::1/128', '::1', '::'],
      ['0.0.0.0/32', '0.0.0.0', '::'],
    ] as const)
      for (const address of addresses)
        assert.equal(guardOf(cidr).refusal(address), 'denied by the operator', `${address} by ${cidr}`);
    assert.equal(guardOf('127.0.0.0/8').refusal('0.1.2.3'), undefined);
    assert.equal(guardOf('10.0.0.0/8').refusal('0.0.0.0'), undefined);
  });

  it('connects to no loopback by another name once that is denied, with any reader', async () => {
    const server = await bench.serve(startContentServer(bufferContent(BYTES)));
    for (const host of ['0.0.0.0', '0', '[::]', '[::ffff:0:0]'])
      for (const pipelining of [true, false]) {
        const policy = { allowed: [], denied: ['127.0.0.0/8', '::1'], unrestricted: true };
        const { source } = bench.open(`http://${host}:${server.port}/`, {}, { policy, pipelining });
        await fails(source.probe(), 'SourceNotAllowed', /denied by the operator/u);
      }
    assert.equal(server.connections(), 0);
  });

  it('lets other addresses through', () => {
    const guard = createAddressGuard(NOBODY);
    for (const address of [
      '8.8.8.8',
      '10.0.0.1',
      '192.168.1.1',
      '2001:db8::1',
      '::ffff:8.8.8.8',
      'fd00::1',
      'fd20:ce::253',
      '100.100.100.201',
      '::ffff:0:8.8.8.8',
      '2002:808:808::7f00:1',
      '64:ff9b:1:808:8:800::',
      '64:ff9b:1:8:8:808::',
      '64:ff9b:1:0:8:808:800:0',
      '64:ff9b:1::8.8.8.8',
      '64:ff9b:2::127.0.0.1',
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
    for (const address of [
      '2002:a01:203::1',
      '::ffff:0:10.1.2.3',
      '64:ff9b:1::10.1.2.3',
      '64:ff9b:1:a01:2:300::',
    ])
      assert.equal(guard.refusal(address), 'denied by the operator', address);
    assert.equal(guard.refusal('10.2.2.3'), undefined);
    assert.equal(guard.refusal('127.0.0.1'), undefined);
    assert.equal(guard.refusal('::ffff:127.0.0.1'), undefined);
    assert.equal(guard.refusal('127.0.0.2'), 'denied by the operator');
    assert.equal(guard.refusal('fe80::2'), undefined);
  });

  it('lets operators lift the addresses of metadata services', () => {
    const guard = createAddressGuard({ allowed: ['100.100.100.200', 'fd00:ec2::/64'], denied: [] });
    assert.equal(guard.refusal('100.100.100.200'), undefined);
    assert.equal(guard.refusal('64:ff9b:1::100.100.100.200'), undefined);
    assert.equal(guard.refusal('fd00:ec2::254'), undefined);
    assert.equal(guard.refusal('168.63.129.16'), 'metadata service');
  });

  it('allows no address by one reading of it while another one is refused', () => {
    const guard = createAddressGuard({ allowed: ['10.0.0.5'], denied: [] });
    assert.equal(guard.refusal('64:ff9b:1:a00:0:500::'), undefined);
    assert.equal(guard.refusal('64:ff9b:1:a00:0:500:a9fe:a9fe'), 'link-local');
  });

  it('has no defaults for callers with their own rights, but their denials', () => {
    const guard = createAddressGuard({ ...NOBODY, denied: ['169.254.0.0/16'], unrestricted: true });
    assert.equal(guard.refusal('127.0.0.1'), undefined);
    assert.equal(guard.refusal('169.254.169.254'), 'denied by the operator');
  });

  it('refuses CIDRs that are none', () => {
    for (const cidr of [
      '10.0.0.0/',
      '10.0.0.0/1000',
      '',
      'localhost',
      '10.0.0.0/33',
      '10.0.0.0/a',
      '::/129',
      '10.0.0.0/-1',
    ]) {
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
