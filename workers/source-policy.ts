import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { KubeConfig } from '@kubernetes/client-node';
import type { AddressPolicy } from '../activities/image/source/types.js';

/**
 * The operator's policy with what no source may be besides: this node's own addresses, the API server and Temporal
 * (`design.md` §7.8). What the operator allows is allowed.
 */
export async function sourcePolicy(
  policy: AddressPolicy,
  { kubeConfig, temporalAddress }: { kubeConfig: KubeConfig; temporalAddress: string },
): Promise<AddressPolicy> {
  const servers = [hostOf(kubeConfig.getCurrentCluster()?.server ?? ''), hostOf(`tcp://${temporalAddress}`)];
  const addresses = await Promise.all(servers.filter((host) => host !== '').map(addressesOf));
  return { ...policy, denied: [...policy.denied, ...ownAddresses(), ...addresses.flat()] };
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
