/** Where a hostpath volume may be made. */
import { PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import type { V1Node, V1PersistentVolume, V1TopologySelectorTerm } from '@kubernetes/client-node';
import type { ControlActivities } from '../interfaces.js';
import type { ClaimRef, NodeCandidate, PlacementFacts, PoolRef, TargetPlan } from '../types.js';
import { refuseForeignVolume } from './adoption.js';
import { callForOutcome, callIfFound, listAll } from './client.js';
import type { Kubernetes } from './client.js';
import { findClaim, readClaim } from './claims.js';
import { recordEvent } from './events.js';
import { HOSTNAME_LABEL, IDENTITY, PROVISION_ON_NODE, SELECTED_NODE } from './names.js';
import { parseQuantity } from './quantity.js';
import { listPools } from './targets.js';

/** Activities of placement. */
export function createNodeActivities({
  kubernetes,
}: {
  kubernetes: Kubernetes;
}): Pick<ControlActivities, 'listCandidates' | 'refuseSelectedNode' | 'listNodes'> {
  const { core, storage } = kubernetes;

  async function listCandidates(input: { claim: ClaimRef; target: TargetPlan }): Promise<PlacementFacts> {
    const claim = await readClaim(kubernetes, input.claim);
    refuseForeignVolume(claim);
    const { annotations = {} } = claim.metadata ?? {};
    const [nodes, volumes, storageClass] = await Promise.all([
      listAll('listing nodes', (page) => core.listNode(page)),
      listAll('listing volumes', (page) => core.listPersistentVolume(page)),
      callIfFound(
        `reading StorageClass ${input.target.storageClass}`,
        storage.readStorageClass({ name: input.target.storageClass }),
      ),
    ]);
    return choosePlacement({
      nodes,
      volumes,
      topologies: storageClass?.allowedTopologies ?? [],
      pool: input.target.pool,
      provisionOnNode: annotations[PROVISION_ON_NODE],
      selectedNode: annotations[SELECTED_NODE],
    });
  }

  async function refuseSelectedNode(input: {
    claim: ClaimRef;
    node: string;
    roomBytes: number;
    requestBytes: number;
  }): Promise<void> {
    const { claim, node, roomBytes, requestBytes } = input;
    const { namespace, name, uid } = claim;
    const found = await findClaim(kubernetes, claim);
    if (!found) return;
    const path = `/metadata/annotations/${SELECTED_NODE.replace('/', '~1')}`;
    if (found.metadata?.annotations?.[SELECTED_NODE] === node) {
      await callForOutcome(
        `giving claim ${namespace}/${name} back to the scheduler`,
        core.patchNamespacedPersistentVolumeClaim(
          {
            namespace,
            name,
            body: [
              { op: 'test', path: '/metadata/uid', value: uid },
              { op: 'test', path, value: node },
              { op: 'remove', path },
            ],
          },
          setHeaderOptions('Content-Type', PatchStrategy.JsonPatch),
        ),
        // 422: the scheduler was faster and chose another node
        [404, 409, 422],
      );
    }
    await recordEvent(
      kubernetes,
      { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name, uid },
      {
        type: 'Warning',
        reason: 'InsufficientCapacity',
        message: `node ${node} has room for ${roomBytes} bytes, the claim requests ${requestBytes}`,
      },
    );
  }

  async function listNodes(): Promise<{
    readonly nodes: readonly string[];
    readonly pools: readonly PoolRef[];
  }> {
    const nodes = await listAll('listing nodes', (page) => core.listNode(page));
    return { nodes: nodes.map(({ metadata }) => metadata?.name ?? ''), pools: await listPools(kubernetes) };
  }

  return { listCandidates, refuseSelectedNode, listNodes };
}

/** What decides a placement, read from the cluster. */
export interface PlacementInput {
  readonly nodes: readonly V1Node[];
  readonly volumes: readonly V1PersistentVolume[];
  /** `allowedTopologies` of the class; empty allows every node. */
  readonly topologies: readonly V1TopologySelectorTerm[];
  readonly pool: PoolRef;
  readonly provisionOnNode?: string | undefined;
  readonly selectedNode?: string | undefined;
}

/** The nodes that a claim may use: the one the user or the scheduler names, else every node that is Ready and allowed. */
export function choosePlacement(input: PlacementInput): PlacementFacts {
  const { nodes, topologies, provisionOnNode, selectedNode } = input;
  const named = provisionOnNode ?? selectedNode;
  const chosenBy = provisionOnNode ? 'provisionOnNode' : selectedNode ? 'selected-node' : 'any';
  const asked = named === undefined ? nodes : nodes.filter(({ metadata }) => metadata?.name === named);
  const refusals = asked.map((node) => ({ node, why: refusalOf(node, topologies, chosenBy === 'any') }));
  const candidates = refusals
    .filter(({ why }) => why === undefined)
    .map(({ node }) => candidateOf(node, input));
  if (candidates.length > 0) return { candidates, chosenBy };
  const reasons = refusals.map(({ node, why }) => `${node.metadata?.name} ${why}`);
  const reason =
    named !== undefined && asked.length === 0 ? `node ${named} does not exist` : reasons.join(', ');
  return { candidates, chosenBy, reason: reason || 'the cluster has no nodes' };
}

function refusalOf(
  node: V1Node,
  topologies: readonly V1TopologySelectorTerm[],
  anyNode: boolean,
): string | undefined {
  const labels = node.metadata?.labels ?? {};
  if (!labels[HOSTNAME_LABEL]) return `has no label ${HOSTNAME_LABEL}`;
  if (!node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True'))
    return 'is not Ready';
  if (topologies.length > 0 && !topologies.some((term) => allows(term, labels))) {
    return 'is not in allowedTopologies of the StorageClass';
  }
  if (anyNode && node.spec?.unschedulable) return 'is cordoned';
  return undefined;
}

/** Whether a term of `allowedTopologies` matches a node's labels. */
export function allows(
  { matchLabelExpressions = [] }: V1TopologySelectorTerm,
  labels: Record<string, string>,
): boolean {
  return matchLabelExpressions.every(({ key, values }) => values.includes(labels[key] ?? ''));
}

function candidateOf({ metadata }: V1Node, { volumes, pool }: PlacementInput): NodeCandidate {
  const hostname = metadata?.labels?.[HOSTNAME_LABEL] ?? '';
  return { node: metadata?.name ?? '', hostname, foreignBytes: foreignBytes(volumes, pool, hostname) };
}

/** Bytes that volumes not made by dvflow occupy or promise in a pool on a node. */
export function foreignBytes(
  volumes: readonly V1PersistentVolume[],
  pool: PoolRef,
  hostname: string,
): number {
  return volumes
    .filter((volume) => isForeign(volume, pool) && hostnameOf(volume) === hostname)
    .reduce((sum, { spec }) => sum + Number(parseQuantity(spec?.capacity?.storage ?? '0') ?? 0n), 0);
}

/** A volume in the pool that dvflow did not make: its node keeps no promise of it. */
function isForeign({ metadata, spec }: V1PersistentVolume, pool: PoolRef): boolean {
  const path = spec?.hostPath?.path ?? spec?.local?.path ?? '';
  return path.startsWith(`${pool.path}/`) && metadata?.annotations?.hostPathProvisionerIdentity !== IDENTITY;
}

/** The one hostname that a volume's nodeAffinity names. */
export function hostnameOf({ spec }: V1PersistentVolume): string | undefined {
  const terms = spec?.nodeAffinity?.required?.nodeSelectorTerms ?? [];
  return terms
    .flatMap(({ matchExpressions = [] }) => matchExpressions)
    .find(({ key }) => key === HOSTNAME_LABEL)?.values?.[0];
}
