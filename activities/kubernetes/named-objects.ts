/** Secrets and ConfigMaps that are read because somebody named them; those that do not exist (yet) are gathered. */
import type { V1ConfigMap, V1Secret } from '@kubernetes/client-node';
import { callIfFound } from './client.js';
import type { Kubernetes } from './client.js';

/** Where an object is. */
export interface ObjectName {
  readonly namespace: string;
  readonly name: string;
}

/** Reads objects by name; `undefined` where there is none. */
export interface Lookup {
  readonly secret: (where: ObjectName) => Promise<V1Secret | undefined>;
  readonly configMap: (where: ObjectName) => Promise<V1ConfigMap | undefined>;
}

/** What was named, and what of it is not there. */
export interface NamedObjects {
  /** A Secret of the DataVolume's namespace; `undefined` where none is named, or the named one is missing. */
  secret(name: string | undefined): Promise<V1Secret | undefined>;
  /** The same for a ConfigMap. @param namespace @default the DataVolume's */
  configMap(name: string | undefined, namespace?: string): Promise<V1ConfigMap | undefined>;
  /** `Secret team-a/basic-auth`, in the order of asking. */
  readonly missing: readonly string[];
}

/** Looks in the cluster. */
export function createLookup({ core }: Kubernetes): Lookup {
  return {
    secret: ({ namespace, name }) =>
      callIfFound(`reading Secret ${namespace}/${name}`, core.readNamespacedSecret({ namespace, name })),
    configMap: ({ namespace, name }) =>
      callIfFound(
        `reading ConfigMap ${namespace}/${name}`,
        core.readNamespacedConfigMap({ namespace, name }),
      ),
  };
}

/** Reads what is named in `namespace`. */
export function createNamedObjects(lookup: Lookup, namespace: string): NamedObjects {
  const missing: string[] = [];

  async function find<T>(
    kind: string,
    read: (where: ObjectName) => Promise<T | undefined>,
    where: ObjectName,
  ): Promise<T | undefined> {
    const found = await read(where);
    const what = `${kind} ${where.namespace}/${where.name}`;
    if (found === undefined && !missing.includes(what)) missing.push(what);
    return found;
  }

  return {
    missing,
    secret: async (name) => (name ? await find('Secret', lookup.secret, { namespace, name }) : undefined),
    configMap: async (name, elsewhere = namespace) =>
      name ? await find('ConfigMap', lookup.configMap, { namespace: elsewhere, name }) : undefined,
  };
}
