import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { freePort } from '../support/free-port.js';

/** A way to a server that can be cut and mended. */
export interface Proxy {
  readonly address: string;
  /** Breaks every connection, and refuses new ones. */
  cut(): Promise<void>;
  /** Listens again, at the same address. */
  mend(): Promise<void>;
  close(): Promise<void>;
}

/** Passes connections on to `host:port`. */
export async function startProxy(address: string): Promise<Proxy> {
  const [host = '', port = ''] = address.split(':');
  const open = new Set<Socket>();
  function pass(from: Socket): void {
    const to = connect(Number(port), host);
    for (const [one, other] of [[from, to] as const, [to, from] as const]) {
      open.add(one);
      one.pipe(other);
      one.on('error', () => other.destroy()).on('close', () => (open.delete(one), other.destroy()));
    }
  }
  const own = await freePort();
  let server = await listen(pass, own);
  async function cut(): Promise<void> {
    const closed = server.listening ? once(server, 'close') : undefined;
    server.close();
    for (const socket of open) socket.destroy();
    await closed;
  }
  return {
    address: `127.0.0.1:${own}`,
    cut,
    mend: async () => void (server = await listen(pass, own)),
    close: cut,
  };
}

async function listen(pass: (from: Socket) => void, port: number): Promise<Server> {
  const server = createServer(pass).listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server;
}
