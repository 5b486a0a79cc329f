import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { layout } from '../paths.js';
import type { LocalNode } from './types.js';

/** More would not be more real, and each costs some 150 MB. */
export const MOST_NODES = 9;

/** Shared address space (RFC 6598): no network of a user's own lies there. */
const SPACE = toNumber('100.64.0.0');
const SPACE_BITS = 22;
const PREFIX = 24;
const SUBNET = 2 ** (32 - PREFIX);

/**
 * Plans the nodes of a stack: names, directories, and networks that no interface or route of the machine uses. Bridges and
 * cgroups are named after the stack's directory, so that several stacks may have nodes at once.
 * @throws when the count is not one that the machine can carry
 */
export function planNodes(directory: string, count: number): readonly LocalNode[] {
  if (!Number.isInteger(count) || count < 0 || count > MOST_NODES) {
    throw new Error(`a local stack has 0 to ${MOST_NODES} real nodes, not ${count}`);
  }
  const id = createHash('sha256').update(directory).digest('hex').slice(0, 8);
  const used = usedNetworks();
  const nodes: LocalNode[] = [];
  for (let number = 1; number <= count; number += 1) {
    const name = `node${String(number).padStart(2, '0')}` as LocalNode['name'];
    const home = join(layout(directory).nodes, name);
    const network = freeNetwork(used);
    used.push({ first: network, last: network + SUBNET - 1 });
    nodes.push({
      name,
      directory: home,
      pool: join(home, 'pool'),
      bridge: `dvf${id}${name.slice(-2)}`,
      address: toText(network + 1),
      prefix: PREFIX,
      cgroup: `dvflow-${id}-${name}`,
    });
  }
  return nodes;
}

interface Range {
  readonly first: number;
  readonly last: number;
}

function freeNetwork(used: readonly Range[]): number {
  for (;;) {
    const network = SPACE + Math.floor(Math.random() * 2 ** (SPACE_BITS - 8)) * SUBNET;
    if (used.every(({ first, last }) => last < network || first >= network + SUBNET)) return network;
  }
}

/** Networks of the machine's interfaces, and those that it has routes to; the default route is none. */
function usedNetworks(): Range[] {
  const own = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ family }) => family === 'IPv4')
    .map(({ address, netmask }) => range(toNumber(address), toNumber(netmask)));
  const routes = readFileSync('/proc/net/route', 'utf8').trim().split('\n').slice(1);
  const routed = routes
    .map((line) => line.split('\t'))
    .filter((fields) => fields[7] !== '00000000')
    .map((fields) => range(littleEndian(fields[1] ?? ''), littleEndian(fields[7] ?? '')));
  return [...own, ...routed];
}

function range(address: number, mask: number): Range {
  const size = 2 ** 32 - mask;
  const first = Math.floor(address / size) * size;
  return { first, last: first + size - 1 };
}

function toNumber(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
}

function toText(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}

/** `/proc/net/route` prints addresses as the words that they are in memory. */
function littleEndian(word: string): number {
  return Buffer.from(word, 'hex').readUInt32LE();
}
