/** The one HTTPS server of a gateway: kube-apiserver, virtctl, curl and browsers come by the same port. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { SecureContextOptions, TLSSocket } from 'node:tls';
import cors from '@fastify/cors';
import fastify, { type FastifyInstance } from 'fastify';
import type { HostPort } from '../config.js';
import { addAggregatedApi } from './aggregated-api.js';
import { addPage } from './page.js';
import type { GatewayParts } from './parts.js';
import { addTus } from './tus/routes.js';
import { awaitsContinue } from './requests.js';
import { addUploads } from './uploads.js';

/** Certificate and key that the gateway serves with, and the authority of the front proxy. */
export type ServingTls = Pick<SecureContextOptions, 'cert' | 'key' | 'ca'>;

/** A server that listens. */
export interface GatewayServer {
  /** Port that was asked for, or drawn. */
  readonly port: number;
  /** Connections from now on are served with these; where the authority is another one, those that it has not judged are cut. */
  renew(tls: ServingTls): void;
  /** Lets uploads under way end, for a time, and closes. */
  close(): Promise<void>;
}

/** Requests under way may end within this when the gateway is told to stop, in ms; resumable uploads go on with another one. */
const DRAIN_MS = 20_000;

/** CDI's: any origin, no credentials; the token is in a header that a page sets itself. */
const CORS = {
  origin: '*',
  methods: ['HEAD', 'GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
  optionsSuccessStatus: 200,
};

/** Starts to listen. */
export async function startServer(
  parts: GatewayParts,
  { address, tls }: { readonly address: HostPort; readonly tls: ServingTls },
): Promise<GatewayServer> {
  const app = createApp(parts, tls);
  const server = app.server as unknown as HttpsServer;
  const proved = provedConnections(server);
  await app.listen({ host: address.host, port: address.port });
  let { ca } = tls;
  const bound = server.address();
  return {
    port: typeof bound === 'object' && bound !== null ? bound.port : address.port,
    renew(renewed) {
      server.setSecureContext(secureOptions(renewed));
      // Node judges a client's certificate once, when the connection is made
      if (renewed.ca !== ca) for (const socket of proved) socket.destroy();
      ({ ca } = renewed);
    },
    async close() {
      const cut = setTimeout(() => server.closeAllConnections(), DRAIN_MS);
      await app.close();
      clearTimeout(cut);
    },
  };
}

/** Without an authority Node would ask the machine's own list, and believe whom any of those has signed. */
function secureOptions(tls: ServingTls): SecureContextOptions {
  return { ...tls, ca: tls.ca ?? [], minVersion: 'TLSv1.2' };
}

/** Connections whose client has a certificate: kube-apiserver's, and nobody's who uploads. */
function provedConnections(server: HttpsServer): ReadonlySet<TLSSocket> {
  const proved = new Set<TLSSocket>();
  server.on('secureConnection', (socket) => {
    if (Object.keys(socket.getPeerCertificate() ?? {}).length === 0) return;
    proved.add(socket);
    socket.once('close', () => proved.delete(socket));
  });
  return proved;
}

/** Every route, on a server that does not listen yet. */
function createApp(parts: GatewayParts, tls: ServingTls): FastifyInstance {
  const app = fastify({
    // a user's browser or virtctl has no certificate, kube-apiserver has: each route that needs one asks for it
    https: { ...secureOptions(tls), requestCert: true, rejectUnauthorized: false },
    bodyLimit: Number.MAX_SAFE_INTEGER,
    // Node's own limit of 300 s would end every long upload; bodies have a stall timer of their own
    requestTimeout: 0,
    exposeHeadRoutes: false,
    forceCloseConnections: 'idle',
    // a resumable upload is its name, which holds all that is known of it
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 4_096 },
    logger: false,
  }) as unknown as FastifyInstance;
  // bodies are read as streams, whatever type they say they are
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _body, done) => done(null));
  app.server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    awaitsContinue(request, response);
    app.server.emit('request', request, response);
  });
  app.get('/healthz', async (_request, reply) => reply.type('text/plain').send('OK'));
  app.addHook('onResponse', async ({ url }, { statusCode }) => {
    if (/^\/(v1|tus)/.test(url))
      parts.metrics?.record('dvflow_upload_answers_total', 1, { code: `${Math.floor(statusCode / 100)}xx` });
  });
  addAggregatedApi(app, parts);
  addPage(app);
  addTus(app, parts);
  // only around CDI's routes: the tus protocol answers OPTIONS itself
  void app.register(async (uploads) => {
    await uploads.register(cors, CORS);
    addUploads(uploads, parts);
  });
  return app;
}
