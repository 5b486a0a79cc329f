import { control } from './activity-options.js';

/** What came of a node's start. */
export interface RecheckResult {
  /** HostPathProvisioners whose nodes are looked at again, by name. */
  readonly provisioners: readonly string[];
}

/**
 * Has the backing directories looked at again, because the worker of a node has just started: the node may have been relabelled,
 * reinstalled or repaired meanwhile. Node workers have no rights in Kubernetes, so they start this instead of asking there.
 */
export async function recheckNode(_input: { node: string }): Promise<RecheckResult> {
  const provisioners = await control.listHostPathProvisioners();
  for (const provisioner of provisioners) await control.recheckPreparation({ provisioner });
  return { provisioners: provisioners.map(({ name }) => name) };
}
