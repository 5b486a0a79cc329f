import type { ClusterFacts } from './cluster.js';

/** How the workers of this installation are started and looked at. */
export interface Remedies {
  readonly control: string;
  readonly node: (name: string) => string;
  /** Where nothing is known to run them. */
  readonly install: string;
}

/** Commands by how dvflow is installed: in the cluster, as the local stack, or as processes somewhere. */
export function remediesFor({ deployed }: Pick<ClusterFacts, 'deployed'>, localStack: boolean): Remedies {
  const install = 'kubectl apply -k deploy';
  if (localStack)
    return { control: 'dvflow local up', node: () => 'dvflow local up', install: 'dvflow local up' };
  return {
    install,
    control: deployed.control
      ? 'kubectl -n dvflow get pods; kubectl -n dvflow logs deployment/dvflow-control'
      : `${install}, or run: dvflow worker control`,
    node: (name) =>
      deployed.node
        ? `kubectl -n dvflow-nodes get pods -o wide --field-selector spec.nodeName=${name}; kubectl -n dvflow-nodes logs <pod>`
        : `${install}, or run on that node: DVFLOW_NODE_NAME=${name} dvflow worker node`,
  };
}
