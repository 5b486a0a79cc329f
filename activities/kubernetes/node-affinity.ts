/** Which nodes a volume's nodeAffinity names. */
import type { V1Node, V1PersistentVolume } from '@kubernetes/client-node';
import { fitsSomeTerm } from './label-selector.js';

/** The nodes that a volume can be used on; without nodeAffinity all. */
export function nodesOf({ spec }: V1PersistentVolume, nodes: readonly V1Node[]): readonly V1Node[] {
  const terms = spec?.nodeAffinity?.required?.nodeSelectorTerms;
  if (!terms) return nodes;
  return nodes.filter(({ metadata }) =>
    fitsSomeTerm(terms, { name: metadata?.name ?? '', labels: metadata?.labels ?? {} }),
  );
}
