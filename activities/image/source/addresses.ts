import { lookup as resolve } from 'node:dns';
import type { LookupAddress, LookupOptions } from 'node:dns';
import { BlockList, isIP, isIPv4 } from 'node:net';
import { permanentFailure } from '../../failures.js';
import type { AddressPolicy } from './types.js';

/**
 * Where a name has several addresses, Node gives each but the last so long, in ms. Its own 250 are less than a handshake takes
 * on a long way, or after one lost SYN (1 s): with an IPv6 address that leads nowhere, no try would ever succeed.
 */
export const ADDRESS_ATTEMPT_MS = 2500;

/** Refused unless an operator lifts them: nothing behind them is a source that a user of a cluster may read. */
const DEFAULT_REFUSALS = [
  ['loopback', ['127.0.0.0/8', '::1/128']],
  ['link-local', ['169.254.0.0/16', 'fe80::/10']],
  ['unspecified', ['0.0.0.0/8', '::/128']],
  ['multicast', ['224.0.0.0/4', 'ff00::/8']],
  ['broadcast', ['255.255.255.255/32']],
  [
    'metadata service',
    [
      // those that are not link-local: Alibaba Cloud, Azure, Oracle Cloud, Google Cloud; at AWS the identities of pods as well
      '100.100.100.200/32',
      '168.63.129.16/32',
      '192.0.0.192/32',
      'fd20:ce::254/128',
      'fd00:ec2::/32',
    ],
  ],
] as const;

/** IPv6 addresses with an IPv4 address inside, and which of their bytes may be it. */
const EMBEDDINGS: readonly (readonly [
  prefixes: readonly string[],
  places: readonly (readonly number[])[],
])[] = [
  // mapped, compatible, translated, and NAT64 (RFC 6052 §2.1)
  [['::ffff:0:0/96', '::/96', '::ffff:0:0:0/96', '64:ff9b::/96'], [[12, 13, 14, 15]]],
  // 6to4
  [['2002::/16'], [[2, 3, 4, 5]]],
  // NAT64 with a prefix of the site's own, whose length only the site knows: 48, 56, 64 or 96 bits (RFC 8215, RFC 6052 §2.2)
  [
    ['64:ff9b:1::/48'],
    [
      [6, 7, 9, 10],
      [7, 9, 10, 11],
      [9, 10, 11, 12],
      [12, 13, 14, 15],
    ],
  ],
];
/** Where Linux connects to instead: who denies loopback means these too. */
const CONNECTED_TO: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };
/** Made for the first IPv6 address: Node compiles what it knows one by for longer than a whole command starts. */
let embedding: readonly (readonly [list: BlockList, places: readonly (readonly number[])[]])[] | undefined;

type LookupCallback = (
  error: NodeJS.ErrnoException | null,
  address: string | LookupAddress[],
  family?: number,
) => void;

/** Judges every address before a connection to it is made. */
export interface AddressGuard {
  /** Why an address is refused (`loopback`, `denied by the operator`), or `undefined`. */
  readonly refusal: (address: string) => string | undefined;
  /** The failure for a host that is itself an address, or `undefined` for names and allowed addresses. */
  readonly refuseLiteral: (host: string) => Error | undefined;
  /** `lookup` for sockets: resolves the name, and hands out the checked addresses only, so that no second look-up can differ. */
  readonly lookup: (hostname: string, options: LookupOptions, callback: LookupCallback) => void;
}

/**
 * Makes the guard of one source. What `allowed` names is allowed whatever else refuses it, because an operator wrote it for
 * that purpose; then `denied` refuses, then the defaults do, unless the policy is `unrestricted`. An IPv4 address inside of an
 * IPv6 one is judged as well; where several may be meant, all of them must be allowed, and none refused.
 *
 * @throws TypeError for a CIDR that is none.
 */
export function createAddressGuard(policy: AddressPolicy): AddressGuard {
  const allowed = blockListOf(policy.allowed);
  const denied = blockListOf(policy.denied);
  const refusals = policy.unrestricted
    ? []
    : DEFAULT_REFUSALS.map(([reason, cidrs]) => [reason, blockListOf(cidrs)] as const);

  function refusal(address: string): string | undefined {
    const bare = address.replace(/%.*$/u, '');
    const inside = isIPv4(bare) ? [] : addressesInside(bare);
    const isAllowed = (spelling: string): boolean => contains(allowed, spelling);
    if (isAllowed(bare) || (inside.length > 0 && inside.every(isAllowed))) return undefined;
    const spellings = [bare, ...inside];
    const reached = spellings.map((spelling) => CONNECTED_TO[spelling] ?? spelling);
    if ([...spellings, ...reached].some((one) => contains(denied, one))) return 'denied by the operator';
    return refusals.find(([, list]) => spellings.some((spelling) => contains(list, spelling)))?.[0];
  }

  function refuseLiteral(host: string): Error | undefined {
    const address = withoutBrackets(host);
    if (isIP(address) === 0) return undefined;
    const reason = refusal(address);
    return reason === undefined ? undefined : notAllowed(address, [`${address} (${reason})`]);
  }

  function lookup(hostname: string, options: LookupOptions, callback: LookupCallback): void {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return callback(error, []);
      const usable = addresses.filter(({ address }) => refusal(address) === undefined);
      const [first] = usable;
      if (!first) {
        const reasons = addresses.map(({ address }) => `${address} (${refusal(address) ?? 'unknown'})`);
        return callback(notAllowed(hostname, reasons), []);
      }
      if (options.all) callback(null, usable);
      else callback(null, first.address, first.family);
    });
  }

  return { refusal, refuseLiteral, lookup };
}

/**
 * The name by which a server of a URL's host proves itself, without the dot at the end of a full one (RFC 6066 §3); `''` for an
 * address, which has none. Node's agent would take it from the Host header, which may be the user's.
 */
export function serverNameOf(host: string): string {
  const bare = withoutBrackets(host);
  return isIP(bare) === 0 ? bare.replace(/\.$/u, '') : '';
}

function withoutBrackets(host: string): string {
  return host.replace(/^\[|\]$/gu, '');
}

function notAllowed(host: string, reasons: readonly string[]): Error {
  const text = `connections to ${host} are refused: ${reasons.join(', ')}; an operator can allow it as a source`;
  return permanentFailure('SourceNotAllowed', text);
}

function blockListOf(cidrs: readonly string[]): BlockList {
  const list = new BlockList();
  for (const cidr of cidrs) addCidr(list, cidr);
  return list;
}

function addCidr(list: BlockList, cidr: string): void {
  const [address = '', prefix] = cidr.trim().split('/');
  // the list itself refuses what is no address: isIP() compiles its pattern for IPv6 for longer than all else here takes
  const [family, bits] = isIPv4(address) ? (['ipv4', 32] as const) : (['ipv6', 128] as const);
  try {
    if (!/^\d{1,3}$/u.test(prefix ?? '0')) throw new RangeError('not a length');
    list.addSubnet(address, prefix === undefined ? bits : Number(prefix), family);
  } catch (cause) {
    throw new TypeError(`not an address or CIDR: ${cidr}`, { cause });
  }
}

function contains(list: BlockList, address: string): boolean {
  return list.check(address, isIPv4(address) ? 'ipv4' : 'ipv6');
}

/** The IPv4 addresses that a router or kernel may find in an IPv6 address. */
function addressesInside(address: string): string[] {
  embedding ??= EMBEDDINGS.map(([prefixes, places]) => [blockListOf(prefixes), places] as const);
  const places = embedding.find(([list]) => contains(list, address))?.[1] ?? [];
  if (places.length === 0) return [];
  const bytes = bytesOf(address);
  const readings = places.map((place) => place.map((index) => bytes[index] ?? 0));
  // of several readings all but one are wrong, and mostly begin in the zeros of a prefix or a suffix; nothing is at 0.0.0.0/8
  const usable = readings.length > 1 ? readings.filter(([first]) => first !== 0) : readings;
  return usable.map((reading) => reading.join('.'));
}

/** The 16 bytes of an IPv6 address. */
function bytesOf(address: string): number[] {
  // the URL parser writes groups of hex digits, whatever spelling came in
  const [before = '', after] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::');
  const groupsOf = (text: string): string[] => (text === '' ? [] : text.split(':'));
  const [head, tail] = [groupsOf(before), groupsOf(after ?? '')];
  const groups = [...head, ...Array<string>(8 - head.length - tail.length).fill('0'), ...tail];
  return groups.map((group) => Number.parseInt(group, 16)).flatMap((group) => [group >> 8, group & 255]);
}
