/** Which nodes take part: those that a DaemonSet with the placement of `spec.workload` would run on. */
import type { V1Node, V1Taint, V1Toleration } from '@kubernetes/client-node';
import type { NodeSelection, SelectedNode } from '../../types/preparation.js';
import { fitsSomeTerm, selects } from '../label-selector.js';
import type { WorkloadPlacement } from './objects.js';

/** Effects that keep a pod off a node; `PreferNoSchedule` does not. */
const REPELLING: readonly string[] = ['NoSchedule', 'NoExecute'];

/**
 * Taints that the DaemonSet controller's pods tolerate by themselves
 * (https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/#taints-and-tolerations): a node in trouble takes part.
 */
const TOLERATED: readonly string[] = [
  'node.kubernetes.io/not-ready',
  'node.kubernetes.io/unreachable',
  'node.kubernetes.io/disk-pressure',
  'node.kubernetes.io/memory-pressure',
  'node.kubernetes.io/pid-pressure',
  'node.kubernetes.io/unschedulable',
];

/** OpenShift's label for the operating system of a node. */
const OS_ID = 'node.openshift.io/os_id';

/** Chooses among the nodes. `machineConfigs`: the cluster serves MachineConfigs. */
export function chooseNodes(
  nodes: readonly V1Node[],
  workload: WorkloadPlacement | null | undefined,
  machineConfigs: boolean,
): NodeSelection {
  const placed = nodes.filter((node) => fits(node, workload ?? {}));
  const chosen = placed.filter((node) => isAdmitted(node, workload ?? {}));
  const repelled = placed.filter((node) => machineConfigs && isCoreOs(node) && !chosen.includes(node));
  const selected = chosen
    .map((node): SelectedNode => {
      const byConfig = machineConfigs && isCoreOs(node);
      return { node: node.metadata?.name ?? '', labelledBy: byConfig ? 'machineConfig' : 'node' };
    })
    .sort((a, b) => (a.node < b.node ? -1 : 1));
  const notes = [...podAffinityNote(workload ?? {}), ...coreOsNote(chosen, machineConfigs)];
  const names = repelled.map(({ metadata }) => metadata?.name ?? '').sort();
  return {
    ...{ selected, total: nodes.length, machineConfigs, notes },
    ...(names.length === 0 ? {} : { repelled: names }),
  };
}

function fits({ metadata }: V1Node, { nodeSelector, affinity }: WorkloadPlacement): boolean {
  const { name = '', labels = {} } = metadata ?? {};
  const required = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  return (
    selects({ matchLabels: nodeSelector ?? {} }, labels) &&
    (!required || fitsSomeTerm(required.nodeSelectorTerms, { name, labels }))
  );
}

function isAdmitted({ spec }: V1Node, { tolerations = [] }: WorkloadPlacement): boolean {
  return (spec?.taints ?? []).every((taint) => isTolerated(taint, tolerations));
}

function isTolerated(taint: V1Taint, tolerations: readonly V1Toleration[]): boolean {
  if (!REPELLING.includes(taint.effect) || TOLERATED.includes(taint.key)) return true;
  return tolerations.some(({ key = '', operator, value = '', effect }) => {
    if (effect && effect !== taint.effect) return false;
    // no key with Exists tolerates everything
    if (key !== taint.key && !(key === '' && operator === 'Exists')) return false;
    return operator === 'Exists' || value === (taint.value ?? '');
  });
}

/** RHCOS, or a sibling of it that OpenShift manages in the same way: its `/` is read-only and it is changed by MachineConfigs only. */
export function isCoreOs({ metadata, status }: V1Node): boolean {
  const id = metadata?.labels?.[OS_ID];
  return id === 'rhcos' || id === 'scos' || / CoreOS\b/.test(status?.nodeInfo?.osImage ?? '');
}

/** The DaemonSet controller does not look at affinity among pods; the scheduler does, but there are no pods here. */
function podAffinityNote({ affinity }: WorkloadPlacement): readonly string[] {
  if (!affinity?.podAffinity && !affinity?.podAntiAffinity) return [];
  return ['workload.affinity speaks of other pods, which choose no node here'];
}

function coreOsNote(chosen: readonly V1Node[], machineConfigs: boolean): readonly string[] {
  const names = machineConfigs ? [] : chosen.filter(isCoreOs).map(({ metadata }) => metadata?.name);
  if (names.length === 0) return [];
  return [
    `${names.join(', ')} run CoreOS, and this cluster has no MachineConfigs: their own workers label them`,
  ];
}
