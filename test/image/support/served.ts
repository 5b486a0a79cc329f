/** Volumes of this machine on a data port, as another node serves them, and clones that read them there. */
import { randomUUID } from 'node:crypto';
import { MockActivityEnvironment } from '@temporalio/testing';
import { createServeActivities } from '../../../activities/image/clone/serve.js';
import type { SourceVolume } from '../../../activities/types/clone.js';
import type { DataPort } from '../../../activities/types/data-port.js';
import { startLoopbackPort, type LoopbackPort } from '../../workers/data-port-client.js';
import { reserveClone } from './clone.js';
import { until } from './transfer.js';

/** How a volume is served. */
export interface ServeOptions {
  readonly uid?: string;
  readonly contentType?: 'kubevirt' | 'archive';
  readonly generation?: number;
  /** May change what is answered. */
  readonly through?: DataPort;
}

/** Serves a volume on this port as its node does, from when this resolves until `stop`. */
export async function serveVolume(port: DataPort, volume: SourceVolume, options: ServeOptions = {}) {
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
  return { url, uid, stop, served };
}

/** One data port for all tests of a suite; what a test serves ends with it. */
export function useServedVolumes(directory: () => string) {
  let loopback: LoopbackPort;
  const closing: (() => void)[] = [];

  before(async () => {
    loopback = await startLoopbackPort(500);
  });
  after(() => loopback[Symbol.asyncDispose]());
  afterEach(() => {
    for (const close of closing.splice(0)) close();
  });

  async function serve(volume: SourceVolume, options: ServeOptions = {}) {
    const served = await serveVolume(loopback.port, volume, options);
    closing.push(() => void served.stop());
    return served;
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
        tlsDirectory: loopback.tls('dvflow-node'),
        ...(contentType ? { contentType } : {}),
      },
    );

  return {
    serve,
    reserveRemote,
    get port() {
      return loopback.port;
    },
    get loopback() {
      return loopback;
    },
  };
}
