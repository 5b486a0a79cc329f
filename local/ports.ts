import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import type { Ports } from './types.js';

/** The ports of the stack that people use; Temporal's are the usual ones of its development server. */
export const DEFAULT_PORTS: Ports = {
  etcd: 16379,
  etcdPeer: 16380,
  apiserver: 16443,
  controllerManager: 16257,
  scheduler: 16259,
  temporal: 7233,
  temporalUi: 8233,
  temporalHttp: 7243,
  temporalMetrics: 7244,
  controlHealth: 16081,
  controlMetrics: 16082,
  control2Health: 16083,
  control2Metrics: 16084,
  nodeHealth: 16085,
  nodeMetrics: 16086,
  gateway: 16444,
  gatewayHealth: 16087,
  gatewayMetrics: 16088,
};

/** A port that somebody else listens on. */
export interface PortConflict {
  readonly use: keyof Ports;
  readonly port: number;
  /** The process that listens, where this user may see it. */
  readonly holder?: string;
}

/** Where free ports are looked for: below the range from which the kernel draws ports for outgoing connections. */
const FREE = { first: 18_000, blocks: 430, block: 32 };

/** Ports of a stack that nobody uses, as {@link freeBlock}. */
export async function freePorts(): Promise<Ports> {
  const names = Object.keys(DEFAULT_PORTS) as (keyof Ports)[];
  const block = await freeBlock(names.length);
  return Object.fromEntries(names.map((name, index) => [name, block[index]])) as unknown as Ports;
}

/**
 * So many ports that nobody uses, next to each other; fewer than 32. The one before them is held by this process as long as it lives, so
 * that nobody else who asks here is given one of them while its server is down, as before its start and when it is started again.
 */
export async function freeBlock(count: number): Promise<readonly number[]> {
  for (;;) {
    const held = FREE.first + FREE.block * Math.floor(Math.random() * FREE.blocks);
    const holder = await listenOn(held);
    if (!holder) continue;
    const ports = Array.from({ length: count }, (_, index) => held + 1 + index);
    const free = await Promise.all(ports.map(isFree));
    if (free.every(Boolean)) {
      holder.unref();
      return ports;
    }
    holder.close();
  }
}

/** Those of the named ports that are taken, each with the process that holds it. */
export async function portConflicts(
  ports: Ports,
  uses: readonly (keyof Ports)[],
): Promise<readonly PortConflict[]> {
  const conflicts: PortConflict[] = [];
  for (const use of uses) {
    const port = ports[use];
    if (await isFree(port)) continue;
    const holder = portHolder(port);
    conflicts.push({ use, port, ...(holder === undefined ? {} : { holder }) });
  }
  return conflicts;
}

async function isFree(port: number): Promise<boolean> {
  const server = await listenOn(port);
  if (server) await new Promise((closed) => server.close(closed));
  return server !== undefined;
}

async function listenOn(port: number): Promise<Server | undefined> {
  const server = createServer();
  return await new Promise((settle) => {
    server.once('error', () => settle(undefined));
    server.listen({ host: '127.0.0.1', port, exclusive: true }, () => settle(server));
  });
}

/** Name and pid of the process that listens on a port, from `/proc`; undefined where this user may not see it. */
export function portHolder(port: number): string | undefined {
  const inodes = new Set([...listeners('/proc/net/tcp', port), ...listeners('/proc/net/tcp6', port)]);
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (descriptors(pid).some((target) => inodes.has(target))) {
      return `process ${pid} (${readFileSync(`/proc/${pid}/comm`, 'utf8').trim()})`;
    }
  }
  return undefined;
}

/** Targets `socket:[<inode>]` of the sockets in state LISTEN (0A) on the port. */
function listeners(table: string, port: number): readonly string[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return readTable(table)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[1]?.endsWith(suffix) === true && fields[3] === '0A')
    .map((fields) => `socket:[${fields[9]}]`);
}

function readTable(table: string): readonly string[] {
  try {
    return readFileSync(table, 'utf8').split('\n').slice(1);
  } catch {
    return [];
  }
}

function descriptors(pid: string): readonly string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).map((fd) => link(`/proc/${pid}/fd/${fd}`));
  } catch {
    return [];
  }
}

function link(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
