/** Volumes of this machine on a data port, as another node serves them, and clones that read them there. */
import { randomUUID } from 'node:crypto';
import { MockActivityEnvironment } from '@temporalio/testing';
import { createServeActivities } from '../../../activities/image/clone/serve.js';
import type { SourceVolume } from '../../../activities/types/clone.js';
import type { DataPort } from '../../../activities/types/data-port.js';
import { startDataPort, type ServedDataPort } from '../../../workers/data-port/server.js';
import { peerDirectory } from '../../../workers/pki/directory.js';
import { makeCertificates } from '../../workers/data-port-client.js';
import { reserveClone } from './clone.js';
import { until } from './transfer.js';

const logger = { info: () => undefined, warn: () => undefined, debug: () => undefined };

/** How a volume is served. */
export interface ServeOptions {
  readonly uid?: string;
  readonly contentType?: 'kubevirt' | 'archive';
  readonly generation?: number;
  /** May change what is answered. */
  readonly through?: DataPort;
}

/** One data port for all tests of a suite; what a test serves ends with it. */
export function useServedVolumes(directory: () => string) {
  let certificates: Awaited<ReturnType<typeof makeCertificates>>;
  let port: ServedDataPort;
  const closing: (() => void)[] = [];

  before(async () => {
    certificates = await makeCertificates();
    const tlsDirectory = peerDirectory(certificates.directory, 'dvflow-node');
    port = await startDataPort({
      address: { host: '127.0.0.1', port: 0 },
      tlsDirectory,
      logger,
      patienceMs: 500,
    });
  });
  after(async () => {
    await port.close();
    certificates[Symbol.dispose]();
  });
  afterEach(() => {
    for (const close of closing.splice(0)) close();
  });

  /** Serves a volume as its node does. */
  async function serve(volume: SourceVolume, options: ServeOptions = {}) {
    const { uid = randomUUID(), contentType = 'kubevirt', generation = 1, through = port } = options;
    const node = createServeActivities('source', through);
    const { url } = await node.locateVolume({ uid });
    const environment = new MockActivityEnvironment();
    let beats = 0;
    environment.on('heartbeat', () => (beats += 1));
    const input = { uid, volume, contentType, generation, url };
    const served = environment.run<[], void, () => Promise<void>>(() => node.serveVolume(input));
    served.catch(() => undefined);
    await until(served, () => beats > 0);
    const stop = async (): Promise<void> => {
      environment.cancel();
      await served.catch(() => undefined);
    };
    closing.push(() => void stop());
    return { url, uid, stop, served };
  }

  const reserveRemote = async (
    volume: SourceVolume,
    url: string,
    usableBytes: number,
    contentType?: 'archive',
  ) =>
    await reserveClone(
      directory(),
      { volume, method: 'network', url },
      {
        usableBytes,
        tlsDirectory: peerDirectory(certificates.directory, 'dvflow-node'),
        ...(contentType ? { contentType } : {}),
      },
    );

  return {
    serve,
    reserveRemote,
    get port() {
      return port;
    },
    get certificates() {
      return certificates;
    },
  };
}
