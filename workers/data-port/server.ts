/** The data port: one HTTPS server with client certificates, on which the activities of this worker serve what they have opened. */
import { watch } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Logger } from '@temporalio/common';
import { answerFailure, describeFailure } from '../../activities/data-port/answers.js';
import { lingerAfter } from '../../activities/data-port/linger.js';
import { readTlsFiles, TLS_FILES } from '../../activities/data-port/tls.js';
import { transientFailure } from '../../activities/failures.js';
import type {
  DataPort,
  DataPortResource,
  OpenResource,
  UploadPort,
} from '../../activities/types/data-port.js';
import type { HostPort } from '../config.js';
import { createResources } from './resources.js';

/** Time from a change of the certificates' directory until it is read: Kubernetes changes several files at once. */
const SETTLE_MS = 200;
/** Looks for certificates that are not there yet, and for a change that no watch has told. */
const LOOK_MS = 2_000;
/** From the beginning of a connection to the end of its request's headers. */
const HEADERS_MS = 30_000;

/** Both ends are dvflow. */
const TLS = { minVersion: 'TLSv1.3' } as const;

/** How a data port is served. */
export interface DataPortOptions {
  /** Where to listen; port 0 takes any. Absent: nowhere. */
  readonly address?: HostPort | undefined;
  /** Host by which other processes reach it. @default that of `address` */
  readonly advertisedHost?: string | undefined;
  /** Directory with `ca.crt`, `tls.crt` and `tls.key`; they may come later, and change. */
  readonly tlsDirectory?: string | undefined;
  readonly logger: Pick<Logger, 'info' | 'warn' | 'debug'>;
  /** How long a request waits for its resource to be opened, in ms. @default 60_000; of an upload 300_000 */
  readonly patienceMs?: number | undefined;
}

/** A data port that is served, or will be as soon as it has certificates. */
export interface ServedDataPort extends UploadPort {
  close(): Promise<void>;
}

/** Starts to serve. @throws Error where the address cannot be listened on */
export async function startDataPort(options: DataPortOptions): Promise<ServedDataPort> {
  const { address, tlsDirectory, logger } = options;
  const resources = createResources(options.patienceMs);
  const stopping = new AbortController();
  let server: Server | undefined;
  let loaded = '';

  function load(): void {
    if (tlsDirectory === undefined || address === undefined || stopping.signal.aborted) return;
    try {
      const files = readTlsFiles(tlsDirectory);
      const text = JSON.stringify(files);
      if (text === loaded) return;
      loaded = text;
      if (server) server.setSecureContext({ ...files, ...TLS });
      else listen(createDataPortServer(files, answer));
      logger.info('data port has certificates', { tlsDirectory });
    } catch (error) {
      logger.debug('data port has no certificates yet', { tlsDirectory, error });
    }
  }

  function listen(made: Server): void {
    if (address === undefined) return;
    server = made;
    made.on('error', (error) => {
      logger.warn('data port does not listen', { error, ...address });
      server = undefined;
      loaded = '';
    });
    made.listen(address.port, address.host);
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => undefined);
    lingerAfter(request, response);
    try {
      await resources.answer(request, response, commonNameOf(request));
    } catch (error) {
      logger.debug('a request on the data port failed', { error });
      answerFailure(response, describeFailure(error));
    }
  }

  function base(): string {
    const bound = server?.listening ? (server.address() as AddressInfo) : undefined;
    if (!bound || !address)
      throw transientFailure(
        'NodeUnavailable',
        'the data port of this node is not served: it has no address or no certificates (DVFLOW_DATA_PORT_ADDRESS, DVFLOW_TLS_DIRECTORY)',
      );
    const host = options.advertisedHost ?? address.host;
    return `https://${host.includes(':') ? `[${host}]` : host}:${bound.port}`;
  }
  const urlOf: DataPort['urlOf'] = ({ kind, uid }) => `${base()}/${kind}/${encodeURIComponent(uid)}`;

  load();
  if (server) await listening(server);
  const forget = watchDirectory(tlsDirectory, load, stopping.signal);
  return {
    urlOf,
    open(resource: DataPortResource): OpenResource {
      const url = urlOf(resource);
      const close = resources.open(resource);
      return { url, [Symbol.dispose]: close };
    },
    waitingFor: ({ kind, uid }) => resources.waitingFor(`/${kind}/${uid}`),
    refuse: ({ kind, uid }, failure, session) => resources.refuse(`/${kind}/${uid}`, failure, session),
    async close() {
      stopping.abort();
      forget();
      resources.close();
      await ended(server);
    },
  };
}

function createDataPortServer(
  files: ReturnType<typeof readTlsFiles>,
  answer: (request: IncomingMessage, response: ServerResponse) => Promise<void>,
): Server {
  const server = createServer(
    {
      ...files,
      ...TLS,
      requestCert: true,
      rejectUnauthorized: true,
      headersTimeout: HEADERS_MS,
      // a disk takes as long as it takes; whoever reads a body has its own limit for silence
      requestTimeout: 0,
      keepAliveTimeout: 30_000,
    },
    (request, response) => void answer(request, response),
  );
  // a client that asks whether it may send is told by the first read: Node answers 100 by itself otherwise
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    response.writeContinue();
    void answer(request, response);
  });
  server.on('clientError', (_, socket) => socket.destroy());
  server.timeout = 0;
  return server;
}

async function listening(server: Server): Promise<void> {
  if (server.listening) return;
  await new Promise<void>((resolve, reject) => server.once('listening', resolve).once('error', reject));
}

/** The certificate was verified by the handshake; this is whose it is. */
function commonNameOf({ socket }: IncomingMessage): string {
  const name = (socket as TLSSocket).getPeerCertificate().subject?.CN;
  return typeof name === 'string' ? name : '';
}

/** Looks again when the directory changes, and now and then: a mounted Secret is a link that is swapped. */
function watchDirectory(directory: string | undefined, look: () => void, signal: AbortSignal): () => void {
  if (directory === undefined) return () => undefined;
  let settle: NodeJS.Timeout | undefined;
  const timer = setInterval(look, LOOK_MS);
  timer.unref();
  try {
    const watcher = watch(directory, { signal, persistent: false }, (_, name) => {
      if (name !== null && name !== '..data' && !Object.values<string>(TLS_FILES).includes(name)) return;
      clearTimeout(settle);
      settle = setTimeout(look, SETTLE_MS).unref();
    });
    watcher.on('error', () => undefined);
  } catch {
    // not there yet: the timer looks
  }
  return () => {
    clearTimeout(settle);
    clearInterval(timer);
  };
}

async function ended(server: Server | undefined): Promise<void> {
  if (!server?.listening) return;
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeAllConnections();
  await closed;
}
