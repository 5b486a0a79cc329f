import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { KubeConfig } from '@kubernetes/client-node';
import type { AddressPolicy } from '../activities/image/source/types.js';
import { createKubernetes } from '../activities/kubernetes/client.js';

/**
 * The operator's policy with what no source may be besides: this machine's own addresses, the API server, also
 * behind its Service, and Temporal (`design.md` §7.8). What the operator allows is allowed.
 */
export async function sourcePolicy(
  policy: AddressPolicy,
  { kubeConfig, temporalAddress }: { kubeConfig: KubeConfig; temporalAddress: string },
): Promise<AddressPolicy> {
  const servers = [hostOf(kubeConfig.getCurrentCluster()?.server ?? ''), hostOf(`tcp://${temporalAddress}`)];
  const addresses = await Promise.all([
    apiServerAddresses(kubeConfig),
    ...servers.filter((host) => host !== '').map(addressesOf),
  ]);
  return { ...policy, denied: [...policy.denied, ...ownAddresses(), ...addresses.flat()] };
}

/** The kubeconfig of a pod names a Service only; API servers that cannot be asked now are asked for when the worker starts again. */
async function apiServerAddresses(kubeConfig: KubeConfig): Promise<readonly string[]> {
  const { discovery } = createKubernetes(kubeConfig);
  const slice = await discovery
    .readNamespacedEndpointSlice({ namespace: 'default', name: 'kubernetes' })
    .catch(() => undefined);
  return (slice?.endpoints ?? []).flatMap(({ addresses }) => addresses).filter((address) => isIP(address));
}

function ownAddresses(): readonly string[] {
  return Object.values(networkInterfaces()).flatMap((interfaces = []) =>
    interfaces.map(({ address }) => address),
  );
}

function hostOf(url: string): string {
  return URL.canParse(url) ? new URL(url).hostname.replace(/^\[|\]$/g, '') : '';
}

/** A name that does not resolve now cannot be refused by address; it is resolved anew when the worker starts again. */
async function addressesOf(host: string): Promise<readonly string[]> {
  if (isIP(host)) return [host];
  const found = await lookup(host, { all: true }).catch(() => []);
  return found.map(({ address }) => address);
}
