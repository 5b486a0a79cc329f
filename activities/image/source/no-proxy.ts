import { BlockList, isIP, isIPv4 } from 'node:net';
import { domainToASCII } from 'node:url';

/** One entry of a list that names a host: an address, a domain with or without its sub-domains, and perhaps a port. */
interface HostRule {
  readonly matches: (host: string) => boolean;
  /** Absent: any. */
  readonly port: string | undefined;
}

/** Subnets, each version of addresses apart: Node's list would find `10.0.0.1` in `::/0`, Go does not. */
interface Networks {
  readonly 4: BlockList;
  readonly 6: BlockList;
}

const LOOPBACK = createNetworks();
LOOPBACK[4].addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK[6].addSubnet('::1', 128, 'ipv6');

const DEFAULT_PORTS: Readonly<Record<string, string>> = { 'http:': '80', 'https:': '443' };

/**
 * Reads a list of hosts that are asked directly, as Go's `golang.org/x/net/http/httpproxy` (and thus CDI) does: comma
 * separated; `example.com` stands for the domain and its sub-domains, `.example.com` and `*.example.com` for its sub-domains
 * only, `10.0.0.0/8` for addresses, `*` for everything; hosts and addresses may name a port. Names are never resolved: a CIDR
 * says nothing of a host that is written as a name. `localhost` and loopback addresses are always asked directly.
 */
export function createProxyBypass(noProxy: string): (url: URL) => boolean {
  const entries = noProxy
    .split(',')
    .map((entry) => entry.trim().toLowerCase())
    .filter((entry) => entry !== '');
  const everything = entries.includes('*');
  const networks = createNetworks();
  const rules = entries.filter((entry) => !addNetwork(networks, entry)).flatMap(ruleOf);

  return (url) => {
    const host = bare(url.hostname);
    const port = url.port || DEFAULT_PORTS[url.protocol];
    if (everything || host === 'localhost') return true;
    if (isIP(host) !== 0 && (contains(LOOPBACK, host) || contains(networks, host))) return true;
    return rules.some((rule) => (rule.port === undefined || rule.port === port) && rule.matches(host));
  };
}

function createNetworks(): Networks {
  return { 4: new BlockList(), 6: new BlockList() };
}

function addNetwork(networks: Networks, entry: string): boolean {
  const [, address = '', length = ''] = /^([^/]+)\/(\d{1,3})$/u.exec(entry) ?? [];
  const version = isIP(address);
  if (version === 4 && Number(length) <= 32) networks[4].addSubnet(address, Number(length), 'ipv4');
  else if (version === 6 && Number(length) <= 128) networks[6].addSubnet(address, Number(length), 'ipv6');
  else return false;
  return true;
}

function contains(networks: Networks, address: string): boolean {
  return isIPv4(address) ? networks[4].check(address, 'ipv4') : networks[6].check(address, 'ipv6');
}

function ruleOf(entry: string): HostRule[] {
  const { host, port } = splitPort(entry);
  if (host === '') return [];
  if (isIP(host) !== 0) {
    const address = canonical(host);
    return [{ port, matches: (asked) => isIP(asked) !== 0 && canonical(asked) === address }];
  }
  const domain = host.startsWith('*.') ? host.slice(1) : host;
  const itself = !domain.startsWith('.');
  const name = asciiOf(itself ? domain : domain.slice(1));
  return [
    {
      port,
      matches: (asked) => isIP(asked) === 0 && (asked.endsWith(`.${name}`) || (itself && asked === name)),
    },
  ];
}

/** `host:port` and `[address]:port`; an IPv6 address has more colons, and no port without brackets. */
function splitPort(entry: string): { readonly host: string; readonly port: string | undefined } {
  const [, bracketed, plain = '', port] = /^(?:\[([^\]]*)\]|([^:[\]]*)):([^:[\]]*)$/u.exec(entry) ?? [];
  if (port === undefined) return { host: entry, port: undefined };
  return { host: bracketed ?? plain, port: port === '' ? undefined : port };
}

function asciiOf(name: string): string {
  // what is no name in ASCII either is kept: it matches nothing
  return /[^\0-\x7f]/u.test(name) ? domainToASCII(name) || name : name;
}

function bare(hostname: string): string {
  return canonical(hostname.replace(/^\[|\]$/gu, ''));
}

/** One spelling for each address; an IPv4 address inside an IPv6 one (`::ffff:10.0.0.1`) is that IPv4 address. */
function canonical(host: string): string {
  if (isIP(host) !== 6) return host;
  // a scope (`fe80::1%eth0`) has no place in a URL, so nobody can ask for it
  const spelled = URL.parse(`http://[${host}]`)?.hostname.slice(1, -1) ?? host;
  const [, high, low] = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/u.exec(spelled) ?? [];
  if (high === undefined || low === undefined) return spelled;
  const [upper, lower] = [Number.parseInt(high, 16), Number.parseInt(low, 16)];
  return `${upper >> 8}.${upper & 255}.${lower >> 8}.${lower & 255}`;
}
