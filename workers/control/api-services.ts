/** Keeps the authority by which kube-apiserver knows the gateway in its registration (`deploy/workers/gateway.yaml`). */
import { setTimeout as pause } from 'node:timers/promises';
import type { Logger } from '@temporalio/common';
import { call, callForOutcome, callIfFound, type Kubernetes } from '../../activities/kubernetes/client.js';
import { TLS_FILES } from '../../activities/data-port/tls.js';
import { CERTIFICATE_SECRETS } from '../pki/secrets.js';

/** The registrations of the aggregated API. */
export const API_SERVICES = ['v1beta1', 'v1alpha1'].map((version) => `${version}.upload.cdi.kubevirt.io`);

const RESOURCE = { group: 'apiregistration.k8s.io', version: 'v1', plural: 'apiservices' } as const;

/** Looked at this often, in ms: an authority lasts years, but somebody may apply the manifests again. */
const LOOK_MS = 60_000;
/** While something is missing, in ms. */
const LOOK_SOON_MS = 2_000;

/** An APIService, as far as it is written. */
interface ApiService {
  readonly spec?: { readonly caBundle?: string };
}

/** Keeps the registrations from now on. */
export function keepApiServices({
  kubernetes,
  logger,
}: {
  readonly kubernetes: Pick<Kubernetes, 'core' | 'custom'>;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
}): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const { signal } = stopping;
  async function keep(): Promise<void> {
    while (!signal.aborted) {
      const known = await writeAuthority(kubernetes, logger).catch((error: unknown) => {
        logger.warn('the registration of the upload API could not be looked at', { error });
        return false;
      });
      await pause(known ? LOOK_MS : LOOK_SOON_MS, undefined, { signal }).catch(() => undefined);
    }
  }
  const keeping = keep();
  return {
    async stop() {
      stopping.abort();
      await keeping;
    },
  };
}

/**
 * Writes the authority into every registration that has another one; one that does not exist is left alone.
 * @returns whether the authority is known
 */
export async function writeAuthority(
  { core, custom }: Pick<Kubernetes, 'core' | 'custom'>,
  logger: Pick<Logger, 'info'>,
): Promise<boolean> {
  const { data } = await call(
    'reading the certificate of the gateway',
    core.readNamespacedSecret(CERTIFICATE_SECRETS['dvflow-gateway']),
  );
  const caBundle = data?.[TLS_FILES.ca];
  if (!caBundle) return false;
  for (const name of API_SERVICES) {
    const found = await callIfFound<ApiService>(
      `reading APIService ${name}`,
      custom.getClusterCustomObject({ ...RESOURCE, name }) as Promise<ApiService>,
    );
    if (!found || found.spec?.caBundle === caBundle) continue;
    const body = { ...found, spec: { ...found.spec, caBundle } };
    // somebody else may have written meanwhile: the next look sees it
    const written = await callForOutcome<object>(
      `writing APIService ${name}`,
      custom.replaceClusterCustomObject({ ...RESOURCE, name, body }) as Promise<object>,
    );
    if (typeof written !== 'string') logger.info('told kube-apiserver how to know the gateway', { name });
  }
  return true;
}
