/** What CDI's configuration says of the way to sources (`cdi.md` §1.7). */
import type { ProxySettings } from '../image/source/types.js';
import { canonicalDomain } from '../image/registry/reference.js';
import type { NamedObjects } from './named-objects.js';
import { OWN_NAMESPACE } from './names.js';
import type { CdiConfig } from './objects.js';
import { bundleOf } from './secret-values.js';

/**
 * The proxy that sources are asked by, and what is trusted on the way: what the specification of CDIConfig says, else what its
 * status says (CDI finds an OpenShift cluster's own there). `trustedCAProxy` counts without a proxy as well: some intercept TLS
 * unasked. It names a ConfigMap in dvflow's namespace, as it is one in CDI's for CDI: what an operator configures is not to lie
 * where users write.
 */
export async function proxyOf(
  config: CdiConfig | undefined,
  named: NamedObjects,
): Promise<ProxySettings | undefined> {
  const { HTTPProxy, HTTPSProxy, noProxy, trustedCAProxy } =
    config?.spec?.importProxy ?? config?.status?.importProxy ?? {};
  if (!HTTPProxy && !HTTPSProxy && !trustedCAProxy) return undefined;
  const authorities = await named.configMap(trustedCAProxy, OWN_NAMESPACE);
  return {
    ...(HTTPProxy ? { http: HTTPProxy } : {}),
    ...(HTTPSProxy ? { https: HTTPSProxy } : {}),
    ...(noProxy ? { noProxy } : {}),
    ...(authorities ? { ca: bundleOf(authorities) } : {}),
  };
}

/** Whether a registry, by `host[:port]`, need not prove who it is; the whole name must be the same (CDI's rule). */
export function isInsecureRegistry(config: CdiConfig | undefined, domain: string): boolean {
  const { insecureRegistries = [] } = config?.spec ?? {};
  return insecureRegistries.some((listed) => canonicalDomain(listed) === domain);
}
