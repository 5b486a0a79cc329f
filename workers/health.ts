import { createServer } from 'node:http';
import type { HostPort } from './config.js';

/** Serves `/healthz` (the process lives) and `/readyz` (200 once `ready` says so, else 503). */
export async function serveHealth(address: HostPort, ready: () => boolean): Promise<{ close(): void }> {
  const server = createServer((request, response) => {
    const ok = request.url === '/healthz' || (request.url === '/readyz' && ready());
    response.writeHead(ok ? 200 : request.url === '/readyz' ? 503 : 404).end(ok ? 'ok\n' : 'not ready\n');
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(address.port, address.host, resolve);
  });
  return {
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
