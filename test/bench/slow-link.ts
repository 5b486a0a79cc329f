import { spawnSync } from 'node:child_process';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { bash } from './processes.js';
import { startNginx, type Server } from './server.js';
import type { Workspace } from './workspace.js';

/** Part of a full frame of 1514 bytes that is payload, with TCP timestamps. */
const PAYLOAD = 1448 / 1514;

/** Addresses for benchmarks (RFC 2544): no network that this machine is in uses them. */
const SERVER = '198.18.77.1';
const CLIENT = '198.18.77.2';

/** A server behind a link of limited speed. */
export interface SlowLink extends Server {
  /** How the speed is limited. */
  readonly kind: string;
}

/**
 * Serves the directory over a link that carries `bytesPerSecond` of payload: a network namespace behind a veth pair with a token
 * bucket where this user and kernel can make one, else a relay on loopback that paces what it passes on; `kind` says which, and
 * why. Nothing of it outlives this process.
 */
export async function openSlowLink(
  workspace: Workspace,
  root: string,
  bytesPerSecond: number,
): Promise<SlowLink> {
  const directory = `${workspace.directory}/slow-link`;
  const obstacle = await makeNamespace(workspace, bytesPerSecond);
  if (obstacle === undefined) {
    const prefix = ['ip', 'netns', 'exec', namespace()];
    const server = await startNginx({ root, directory, host: SERVER, prefix });
    return { ...server, kind: 'network namespace, veth and tc tbf' };
  }
  const server = await startNginx({ root, directory });
  const port = await startRelay(server, bytesPerSecond);
  return { ...server, port, kind: `paced relay on loopback, since ${obstacle}` };
}

const namespace = (): string => `dvflow-bench-${process.pid}`;

/** Makes namespace and link; says why it cannot where it cannot. */
async function makeNamespace(workspace: Workspace, bytesPerSecond: number): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return 'a network namespace needs root';
  const link = `dvb${process.pid}`;
  // the name of an interface is at most 15 bytes
  const env = {
    NS: namespace(),
    OUTER: link,
    INNER: `${link}p`,
    RATE: String(Math.round((bytesPerSecond * 8) / PAYLOAD)),
  };
  const remove = (): void => {
    spawnSync('ip', ['netns', 'pids', env.NS], { encoding: 'utf8' })
      .stdout?.split('\n')
      .filter((pid) => pid !== '')
      .forEach((pid) => process.kill(Number(pid), 'SIGKILL'));
    spawnSync('ip', ['link', 'del', env.OUTER], { stdio: 'ignore' });
    spawnSync('ip', ['netns', 'del', env.NS], { stdio: 'ignore' });
  };
  workspace.atEnd(remove);
  try {
    await bash(
      `ip netns add "$NS"
       ip link add "$OUTER" type veth peer name "$INNER" netns "$NS"
       ip addr add ${CLIENT}/30 dev "$OUTER"
       ip link set "$OUTER" up
       ip -n "$NS" addr add ${SERVER}/30 dev "$INNER"
       ip -n "$NS" link set lo up
       ip -n "$NS" link set "$INNER" up
       tc -n "$NS" qdisc add dev "$INNER" root tbf rate "$RATE"bit burst 256k latency 100ms`,
      { env },
    );
    return undefined;
  } catch (error) {
    remove();
    return `the kernel has no namespace with a token bucket (${error instanceof Error ? error.message : String(error)})`;
  }
}

/** Passes connections on to the server and its answers back, all together at most so many bytes per second. */
export async function startRelay(
  server: Pick<Server, 'host' | 'port'>,
  bytesPerSecond: number,
): Promise<number> {
  let ready = 0;
  const pace = async (bytes: number): Promise<void> => {
    const now = performance.now();
    ready = Math.max(ready, now) + (bytes / bytesPerSecond) * 1000;
    // timers are exact to 1 ms: what is less is made up for later
    if (ready - now > 2) await sleep(ready - now);
  };
  const relay = createServer((client) => {
    const upstream = connect(server.port, server.host);
    client.pipe(upstream);
    client.once('error', () => upstream.destroy()).once('close', () => upstream.destroy());
    upstream.once('error', () => client.destroy());
    void passOn(upstream, client, pace);
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  relay.unref();
  return (relay.address() as AddressInfo).port;
}

async function passOn(from: Socket, to: Socket, pace: (bytes: number) => Promise<void>): Promise<void> {
  try {
    for await (const chunk of from as AsyncIterable<Buffer>) {
      await pace(chunk.length);
      if (!to.write(chunk))
        await new Promise<void>((resolve) => to.once('drain', resolve).once('close', resolve));
    }
    to.end();
  } catch {
    // either side went away: the other one is closed by its handler
  }
}
