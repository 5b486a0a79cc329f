/** What a gateway serves with: its certificate from a directory, the front proxy's authority from Kubernetes. Both change. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '@temporalio/common';
import { TLS_FILES } from '../../activities/data-port/tls.js';
import type { FrontProxy } from './front-proxy.js';
import type { ServingTls } from './server.js';

/** Looked at this often, in ms: Kubernetes renews certificates hours before they end. */
const LOOK_MS = 30_000;
/** While something is missing, in ms. */
const LOOK_SOON_MS = 1_000;

/** Options of {@link keepServingTls}. */
export interface ServingOptions {
  /** Directory with `tls.crt` and `tls.key`. */
  readonly directory: string;
  readonly readFrontProxy: () => Promise<FrontProxy>;
  /** Told at first, when there is a certificate, and whenever one of the two has changed. */
  readonly changed: (tls: ServingTls) => Promise<void>;
  readonly logger: Pick<Logger, 'info' | 'warn' | 'debug'>;
}

/** What is known now. */
export interface Serving {
  readonly frontProxy: FrontProxy | undefined;
  /** Both are there. */
  ready(): boolean;
  stop(): void;
}

/** Looks at both from now on. */
export function keepServingTls({ directory, readFrontProxy, changed, logger }: ServingOptions): Serving {
  let frontProxy: FrontProxy | undefined;
  let told = '';
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  async function look(): Promise<void> {
    try {
      frontProxy = await readFrontProxy();
    } catch (error) {
      logger.warn('how the front proxy proves itself is not known', { error });
    }
    const tls = readServingTls(directory, frontProxy);
    if (tls === undefined) {
      logger.debug('the gateway has no certificate yet', { directory });
      return;
    }
    const text = JSON.stringify(tls);
    if (text === told || stopped) return;
    await changed(tls);
    told = text;
    logger.info('gateway has a certificate', { directory, frontProxy: frontProxy !== undefined });
  }

  async function again(): Promise<void> {
    await look().catch((error: unknown) => {
      logger.warn('the gateway cannot serve', { error });
    });
    if (!stopped) timer = setTimeout(() => void again(), ready() ? LOOK_MS : LOOK_SOON_MS);
  }
  const ready = (): boolean => told !== '' && frontProxy !== undefined;

  void again();
  return {
    get frontProxy() {
      return frontProxy;
    },
    ready,
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

/** Undefined while there is no certificate. */
function readServingTls(directory: string, proxy: FrontProxy | undefined): ServingTls | undefined {
  try {
    const cert = readFileSync(join(directory, TLS_FILES.cert), 'utf8');
    const key = readFileSync(join(directory, TLS_FILES.key), 'utf8');
    return { cert, key, ...(proxy?.ca ? { ca: proxy.ca } : {}) };
  } catch {
    return undefined;
  }
}
