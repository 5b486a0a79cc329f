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
] as const;

/** Prefixes of 96 bits whose last 32 bits are an IPv4 address: mapped, compatible, and NAT64 (RFC 6052 §2.1). */
const EMBEDDING_PREFIXES = ['::ffff:0:0/96', '::/96', '64:ff9b::/96'];
/** Made for the first IPv6 address: Node compiles what it knows one by for longer than a whole command starts. */
let embedding: BlockList | undefined;

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
 * that purpose; then `denied` refuses, then the defaults do, unless the policy is `unrestricted`.
 *
 * @throws TypeError for a CIDR that is none.
 */
export function createAddressGuard(policy: AddressPolicy): AddressGuard {
  const allowed = blockListOf(policy.allowed);
  const refusals: readonly (readonly [reason: string, list: BlockList])[] = [
    ['denied by the operator', blockListOf(policy.denied)],
    ...(policy.unrestricted
      ? []
      : DEFAULT_REFUSALS.map(([reason, cidrs]) => [reason, blockListOf(cidrs)] as const)),
  ];

  function refusal(address: string): string | undefined {
    const spellings = spellingsOf(address);
    if (spellings.some((spelling) => contains(allowed, spelling))) return undefined;
    return refusals.find(([, list]) => spellings.some((spelling) => contains(list, spelling)))?.[0];
  }

  function refuseLiteral(host: string): Error | undefined {
    const address = host.replace(/^\[|\]$/gu, '');
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
  const version = isIP(address);
  const bits = version === 4 ? 32 : 128;
  const length = prefix === undefined ? bits : Number(prefix);
  if (version === 0 || !/^\d*$/u.test(prefix ?? '') || length > bits) {
    throw new TypeError(`not an address or CIDR: ${cidr}`);
  }
  list.addSubnet(address, length, version === 4 ? 'ipv4' : 'ipv6');
}

function contains(list: BlockList, address: string): boolean {
  return list.check(address, isIPv4(address) ? 'ipv4' : 'ipv6');
}

/** The address as it is, and the IPv4 address inside it where a router or kernel would use that one. */
function spellingsOf(address: string): string[] {
  const bare = address.replace(/%.*$/u, '');
  if (isIPv4(bare)) return [bare];
  embedding ??= blockListOf(EMBEDDING_PREFIXES);
  if (!contains(embedding, bare)) return [bare];
  // the URL parser writes the last 32 bits as two groups of hex digits, whatever spelling came in
  const groups = new URL(`http://[${bare}]`).hostname.slice(1, -1).split(':');
  const [high = 0, low = 0] = groups.slice(-2).map((group) => Number.parseInt(group || '0', 16));
  return [bare, `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`];
}
