import { mkdirSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { endGroup, startServer } from './processes.js';

/** A running web server over the images. */
export interface Server {
  readonly host: string;
  readonly port: number;
  /** Process of the server; its children do the work. */
  readonly pid: number;
  stop(): void;
}

/** Where a server runs. */
export interface ServerOptions {
  /** Directory that it serves. */
  readonly root: string;
  /** For its configuration, temporary files and logs. */
  readonly directory: string;
  /** @default 127.0.0.1 */
  readonly host?: string;
  /** Directory with `tls.crt` and `tls.key`: served by TLS 1.3 alone. */
  readonly tlsDirectory?: string;
  /** Command in front of it, such as one that enters a network namespace. */
  readonly prefix?: readonly string[];
}

const START_MS = 10_000;

/** Starts an nginx of our own, with two workers, as ordinary web servers are set up: `sendfile on`, `tcp_nopush off`. */
export async function startNginx({
  root,
  directory,
  host = '127.0.0.1',
  tlsDirectory,
  prefix = [],
}: ServerOptions): Promise<Server> {
  mkdirSync(directory, { recursive: true });
  const port = await freePort();
  const file = join(directory, 'nginx.conf');
  writeFileSync(file, configuration({ root, directory, listen: `${host}:${port}`, tlsDirectory }));
  const log = join(directory, 'nginx.log');
  let ended = false;
  const [program = 'nginx', ...args] = [...prefix, 'nginx', '-p', directory, '-e', log, '-c', file];
  const pid = startServer([program, ...args], log, () => (ended = true));
  const stop = (): void => endGroup(pid);
  for (const deadline = Date.now() + START_MS; !(await answers(host, port)); await sleep(50)) {
    if (!ended && Date.now() < deadline) continue;
    stop();
    throw new Error(`nginx does not answer on ${host}:${port}; its log is ${log} (with --keep)`);
  }
  return { host, port, pid, stop };
}

function configuration(options: {
  readonly root: string;
  readonly directory: string;
  readonly listen: string;
  readonly tlsDirectory: string | undefined;
}): string {
  // root's workers would else be an unprivileged user, who cannot enter root's home
  const user = process.getuid?.() === 0 ? 'user root;' : '';
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `${kind}_temp_path "${options.directory}/${kind}";`)
    .join('\n  ');
  const tls = options.tlsDirectory;
  const certificate =
    tls === undefined
      ? ''
      : `ssl_certificate "${tls}/tls.crt";
    ssl_certificate_key "${tls}/tls.key";
    ssl_protocols TLSv1.3;`;
  return `${user}
daemon off;
worker_processes 2;
pid "${options.directory}/nginx.pid";
events { worker_connections 256; }
http {
  access_log off;
  ${temporary}
  sendfile on;
  tcp_nopush off;
  server {
    listen ${options.listen}${tls === undefined ? '' : ' ssl'};
    ${certificate}
    root "${options.root}";
  }
}
`;
}

/** A port that nobody uses now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function answers(host: string, port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 1000 });
    const end = (result: boolean): void => {
      socket.destroy();
      resolve(result);
    };
    socket.once('connect', () => end(true));
    socket.once('timeout', () => end(false));
    socket.once('error', () => end(false));
  });
}
