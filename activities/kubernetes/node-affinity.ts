/** Which nodes a volume's nodeAffinity names, by Kubernetes' rules: terms are alternatives, all expressions of a term must hold. */
import type { V1Node, V1NodeSelectorRequirement, V1PersistentVolume } from '@kubernetes/client-node';

/** The nodes that a volume can be used on; without nodeAffinity all. */
export function nodesOf({ spec }: V1PersistentVolume, nodes: readonly V1Node[]): readonly V1Node[] {
  const terms = spec?.nodeAffinity?.required?.nodeSelectorTerms;
  if (!terms) return nodes;
  return nodes.filter(({ metadata }) =>
    terms.some(({ matchExpressions = [], matchFields = [] }) => {
      // an empty term matches nothing
      if (matchExpressions.length + matchFields.length === 0) return false;
      const fields = { 'metadata.name': metadata?.name ?? '' };
      return (
        matchExpressions.every((requirement) => holds(requirement, metadata?.labels ?? {})) &&
        matchFields.every((requirement) => holds(requirement, fields))
      );
    }),
  );
}

/** Whether labels satisfy one requirement of a selector. */
export function holds(
  { key, operator, values = [] }: V1NodeSelectorRequirement,
  labels: Readonly<Record<string, string>>,
): boolean {
  const value = labels[key];
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
      return Number(value) > Number(values[0]);
    case 'Lt':
      return Number(value) < Number(values[0]);
    default:
      return false;
  }
}
