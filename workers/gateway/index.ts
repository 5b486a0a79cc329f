/** The gateway role: how disks are sent from outside of the cluster. It holds no state, writes no disk, and starts no workflow. */
import type { KubeConfig } from '@kubernetes/client-node';
import type { Client } from '@temporalio/client';
import type { Logger } from '@temporalio/common';
import { dataPortClientOptions } from '../../activities/data-port/tls.js';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import type { HostPort } from '../config.js';
import type { Metrics } from '../metrics/index.js';
import { readFrontProxy } from './front-proxy.js';
import { createFinishedSession, createLocateUpload, createOpenUpload } from './open-upload.js';
import type { GatewayParts } from './parts.js';
import { startServer, type GatewayServer } from './server.js';
import { keepServingTls, type Serving } from './serving.js';
import { createSigningKeys } from './signing-keys.js';
import { createTokens } from './tokens.js';
import { createUploadSlots } from './upload-slots.js';

/** How a gateway is started. */
export interface GatewayOptions {
  readonly kubeConfig: KubeConfig;
  readonly client: Client;
  readonly logger: Logger;
  readonly metrics?: Metrics;
  readonly address: HostPort;
  /** Directory of the certificate for data ports. */
  readonly tlsDirectory: string;
  /** Directory of the certificate that is served with. @default tlsDirectory */
  readonly servingTlsDirectory?: string | undefined;
  readonly uploadSlots: number;
}

/** A gateway that serves, or will as soon as it has a certificate. */
export interface Gateway {
  /** Port that is listened on; absent until then. */
  readonly port: number | undefined;
  /** It has its certificate, and knows the front proxy. */
  ready(): boolean;
  stop(): Promise<void>;
}

/** Starts to serve as soon as there is a certificate; Kubernetes and Temporal may come, go and come back. */
export function startGateway(options: GatewayOptions): Gateway {
  const { address, client, logger, metrics, tlsDirectory, uploadSlots } = options;
  const kubernetes = createKubernetes(options.kubeConfig);
  let server: GatewayServer | undefined;
  metrics?.record('dvflow_upload_slots', uploadSlots);
  metrics?.record('dvflow_active_uploads', 0);
  const parts: GatewayParts = {
    kubernetes,
    tokens: createTokens(createSigningKeys({ kubernetes, logger })),
    openUpload: createOpenUpload(client, kubernetes),
    locateUpload: createLocateUpload(client, kubernetes),
    finishedSession: createFinishedSession(client, kubernetes),
    slots: createUploadSlots(uploadSlots, (taken) => metrics?.record('dvflow_active_uploads', taken)),
    logger,
    ...(metrics ? { metrics } : {}),
    // read for each upload: certificates are renewed
    dataPortTls: () => dataPortClientOptions(tlsDirectory),
    frontProxy: () => serving.frontProxy,
  };
  const serving: Serving = keepServingTls({
    directory: options.servingTlsDirectory ?? tlsDirectory,
    readFrontProxy: async () => await readFrontProxy(kubernetes),
    logger,
    changed: async (tls) => {
      if (server) server.renew(tls);
      else server = await startServer(parts, { address, tls });
    },
  });
  return {
    get port() {
      return server?.port;
    },
    ready: () => serving.ready(),
    async stop() {
      serving.stop();
      await server?.close();
    },
  };
}
