import { mkdtempSync, rmSync } from 'node:fs';
import { request, type RequestOptions } from 'node:https';
import type { IncomingHttpHeaders } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { dataPortClientOptions } from '../../activities/data-port/tls.js';
import type { DataPortPeer } from '../../activities/types/data-port.js';
import { startDataPort, type ServedDataPort } from '../../workers/data-port/server.js';
import { ensureCertificateDirectory, peerDirectory } from '../../workers/pki/directory.js';

/** An answer, read to its end. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

/** A directory with fresh certificates for every peer, which goes with the test. */
export async function makeCertificates(): Promise<Disposable & { readonly directory: string }> {
  const directory = mkdtempSync(join(tmpdir(), 'dvflow-pki-'));
  await ensureCertificateDirectory(directory);
  return { directory, [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true }) };
}

/** A node's data port on loopback with certificates of its own, which both go with it. */
export interface LoopbackPort extends AsyncDisposable {
  readonly port: ServedDataPort;
  /** Directory of a peer's certificate. */
  readonly tls: (peer: DataPortPeer) => string;
  /** Options of a client that is this peer. */
  readonly client: (peer: DataPortPeer) => RequestOptions;
}

/** Serves one; `patienceMs` as in `DataPortOptions`. */
export async function startLoopbackPort(patienceMs: number): Promise<LoopbackPort> {
  const certificates = await makeCertificates();
  const { directory } = certificates;
  const port = await startDataPort({
    address: { host: '127.0.0.1', port: 0 },
    tlsDirectory: peerDirectory(directory, 'dvflow-node'),
    logger: { info: () => undefined, warn: () => undefined, debug: () => undefined },
    patienceMs,
  });
  return {
    port,
    tls: (peer) => peerDirectory(directory, peer),
    client: (peer) => clientOptions(directory, peer),
    async [Symbol.asyncDispose]() {
      await port.close();
      certificates[Symbol.dispose]();
    },
  };
}

/** Options of a client that holds the certificate of a peer. */
export function clientOptions(directory: string, peer: DataPortPeer): RequestOptions {
  return { ...dataPortClientOptions(peerDirectory(directory, peer)), agent: false };
}

/** One request with a body, whole or as it comes; resolves with the answer, also where that comes before the body has ended. */
export async function send(url: string, options: RequestOptions, body?: Buffer | Readable): Promise<Answer> {
  return await new Promise((resolve, reject) => {
    const sent = request(url, options, (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.on('error', reject);
      response.on('end', () => {
        sent.destroy();
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text: Buffer.concat(pieces).toString(),
        });
      });
    });
    sent.on('error', reject);
    if (body === undefined || Buffer.isBuffer(body)) sent.end(body);
    else pipeline(body, sent).catch((error: unknown) => sent.destroy(error as Error));
  });
}
