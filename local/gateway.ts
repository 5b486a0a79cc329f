/** The gateway of the local stack: its settings, and how the API server finds it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { TLS_FILES } from '../activities/data-port/tls.js';
import { peerDirectory } from '../workers/pki/directory.js';
import { layout } from './paths.js';
import type { Ports } from './types.js';

/** The one name of Service, ServiceAccount and certificate. */
const NAME = 'dvflow-gateway';
const GROUP = 'upload.cdi.kubevirt.io';

/** Where clients reach the gateway. */
export function gatewayUrl({ gateway }: Pick<Ports, 'gateway'>): string {
  return `https://127.0.0.1:${gateway}`;
}

/** Authority of the gateway's certificate, in PEM. */
export function gatewayAuthority(directory: string): string {
  return readFileSync(join(peerDirectory(layout(directory).dataPortPki, NAME), TLS_FILES.ca), 'utf8');
}

/** Environment of the gateway. */
export function gatewaySettings(directory: string, { gateway }: Ports): Record<string, string> {
  return {
    DVFLOW_GATEWAY_ADDRESS: `127.0.0.1:${gateway}`,
    DVFLOW_TLS_DIRECTORY: peerDirectory(layout(directory).dataPortPki, NAME),
  };
}

/**
 * Registers the aggregated API: no Service of the local stack has an address, but one may stand for a name outside of the cluster
 * (`deploy/workers/gateway.yaml` registers pods).
 */
export function gatewayRegistration(directory: string, { gateway }: Ports): string {
  const certificates = peerDirectory(layout(directory).dataPortPki, NAME);
  const caBundle = readFileSync(join(certificates, TLS_FILES.ca)).toString('base64');
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: NAME, namespace: 'dvflow' },
    spec: { type: 'ExternalName', externalName: '127.0.0.1' },
  };
  const versions = ['v1beta1', 'v1alpha1'].map((version, index) => ({
    apiVersion: 'apiregistration.k8s.io/v1',
    kind: 'APIService',
    metadata: { name: `${version}.${GROUP}` },
    spec: {
      group: GROUP,
      version,
      groupPriorityMinimum: 1000,
      versionPriority: 15 - index,
      service: { name: NAME, namespace: 'dvflow', port: gateway },
      caBundle,
    },
  }));
  return [service, ...versions].map((object) => stringify(object)).join('---\n');
}
