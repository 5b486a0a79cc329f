/** Where a hostpath volume may be made. */
import { PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import type {
  V1Node,
  V1PersistentVolume,
  V1PersistentVolumeClaim,
  V1TopologySelectorTerm,
} from '@kubernetes/client-node';
import type { ControlActivities } from '../interfaces.js';
import type { ClaimRef, NodeCandidate, PlacementFacts, PoolRef } from '../types.js';
import type { VolumePlan } from '../types/provision.js';
import { refuseForeignVolume } from './adoption.js';
import { asksForUpload } from './plain-claims.js';
import { callForOutcome, callIfFound, listAll } from './client.js';
import type { Kubernetes } from './client.js';
import { findClaim, readClaim } from './claim-object.js';
import { findDataVolume } from './data-volumes.js';
import { recordEvent } from './events.js';
import { foreignBytes, readVolumes } from './foreign-volumes.js';
import { CDI_ANNOTATIONS, HOSTNAME_LABEL, PROVISION_ON_NODE, SELECTED_NODE } from './names.js';
import { nodesOfPool, poolsOf, readProvisioners, toldNodes } from './pools.js';
import { shareReading } from '../shared-reading.js';

/** Activities of placement. */
export function createNodeActivities({
  kubernetes,
}: {
  kubernetes: Kubernetes;
}): Pick<ControlActivities, 'listCandidates' | 'refuseSelectedNode' | 'listNodes'> {
  const { core, storage } = kubernetes;
  const readNodes = shareReading(() => listAll('listing nodes', (page) => core.listNode(page)));
  const provisionersNow = shareReading(() => readProvisioners(kubernetes));
  const volumesNow = shareReading(() => readVolumes(kubernetes));

  async function listCandidates(input: { claim: ClaimRef; target: VolumePlan }): Promise<PlacementFacts> {
    const claim = await readClaim(kubernetes, input.claim);
    refuseForeignVolume(claim);
    const { annotations = {} } = claim.metadata ?? {};
    const [nodes, provisioners, volumes, storageClass] = await Promise.all([
      readNodes(),
      provisionersNow(),
      volumesNow(),
      callIfFound(
        `reading StorageClass ${input.target.storageClass}`,
        storage.readStorageClass({ name: input.target.storageClass }),
      ),
    ]);
    const facts = choosePlacement({
      nodes,
      volumes,
      topologies: storageClass?.allowedTopologies ?? [],
      pool: input.target.pool,
      placed: nodesOfPool(input.target.pool, provisioners, nodes),
      provisionOnNode: annotations[PROVISION_ON_NODE],
      selectedNode: annotations[SELECTED_NODE],
    });
    const waits = input.target.waitForConsumer && facts.chosenBy === 'any';
    return waits && (await isImmediate(claim)) ? { ...facts, immediate: true } : facts;
  }

  /** Whether claim or DataVolume are to wait for no consumer (any more). Of a claim that waits for no data the annotation says nothing. */
  async function isImmediate(claim: V1PersistentVolumeClaim): Promise<boolean> {
    const { namespace = '', name = '', annotations = {} } = claim.metadata ?? {};
    const madeFor = annotations[CDI_ANNOTATIONS.createdFor];
    if (madeFor === undefined && !asksForUpload(claim)) return false;
    if (annotations[CDI_ANNOTATIONS.immediate] !== undefined) return true;
    if (madeFor === undefined) return false;
    const found = await findDataVolume(kubernetes, { namespace, name });
    return (
      found?.metadata.uid === madeFor && found.metadata.annotations?.[CDI_ANNOTATIONS.immediate] !== undefined
    );
  }

  async function refuseSelectedNode(input: {
    claim: ClaimRef;
    node: string;
    roomBytes: number;
    requestBytes: number;
    unusable?: string;
  }): Promise<void> {
    const { claim, node, roomBytes, requestBytes, unusable } = input;
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
      unusable === undefined
        ? {
            type: 'Warning',
            reason: 'InsufficientCapacity',
            message: `node ${node} has room for ${roomBytes} bytes, the claim requests ${requestBytes}`,
          }
        : { type: 'Warning', reason: 'ProvisioningFailed', message: unusable },
    );
  }

  async function listNodes(): Promise<{
    readonly nodes: readonly string[];
    readonly pools: readonly PoolRef[];
    readonly placed: Readonly<Record<string, readonly string[]>>;
  }> {
    const nodes = await listAll('listing nodes', (page) => core.listNode(page));
    const provisioners = await readProvisioners(kubernetes);
    return {
      nodes: nodes.map(({ metadata }) => metadata?.name ?? ''),
      pools: provisioners.flatMap(poolsOf),
      placed: toldNodes(provisioners),
    };
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
  /** Names of the nodes that the pool is placed on; absent where that is not known. */
  readonly placed?: ReadonlySet<string> | undefined;
  readonly provisionOnNode?: string | undefined;
  readonly selectedNode?: string | undefined;
}

/** The nodes that a claim may use: the one the user or the scheduler names, else every node that is Ready and allowed. */
export function choosePlacement(input: PlacementInput): PlacementFacts {
  const { nodes, provisionOnNode, selectedNode } = input;
  const named = provisionOnNode ?? selectedNode;
  const chosenBy = provisionOnNode ? 'provisionOnNode' : selectedNode ? 'selected-node' : 'any';
  const asked = named === undefined ? nodes : nodes.filter(({ metadata }) => metadata?.name === named);
  const refusals = asked.map((node) => ({ node, why: refusalOf(node, input, chosenBy === 'any') }));
  const candidates = refusals
    .filter(({ why }) => why === undefined)
    .map(({ node }) => candidateOf(node, input));
  const facts = { candidates, chosenBy, ...(named === undefined ? {} : { named }) } as const;
  if (candidates.length > 0) return facts;
  const reasons = refusals.map(({ node, why }) => `${node.metadata?.name} ${why}`);
  const reason =
    named !== undefined && asked.length === 0 ? `node ${named} does not exist` : reasons.join(', ');
  return { ...facts, reason: reason || 'the cluster has no nodes' };
}

function refusalOf(
  node: V1Node,
  { topologies, placed, pool }: PlacementInput,
  anyNode: boolean,
): string | undefined {
  const labels = node.metadata?.labels ?? {};
  if (!labels[HOSTNAME_LABEL]) return `has no label ${HOSTNAME_LABEL}`;
  if (!node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True'))
    return 'is not Ready';
  if (topologies.length > 0 && !topologies.some((term) => allows(term, labels))) {
    return 'is not in allowedTopologies of the StorageClass';
  }
  if (placed && !placed.has(node.metadata?.name ?? ''))
    return `is not chosen by spec.workload of the HostPathProvisioner of ${pool.path}`;
  if (anyNode && node.spec?.unschedulable) return 'is cordoned';
  return undefined;
}

/** Whether a term of `allowedTopologies` matches a node's labels; an empty one matches none, as in Kubernetes. */
export function allows(
  { matchLabelExpressions = [] }: V1TopologySelectorTerm,
  labels: Record<string, string>,
): boolean {
  if (matchLabelExpressions.length === 0) return false;
  return matchLabelExpressions.every(({ key, values }) => values.includes(labels[key] ?? ''));
}

/** The node for a volume in this pool, with what volumes of others take from it. */
export function candidateOf(
  { metadata }: V1Node,
  { volumes, pool }: Pick<PlacementInput, 'volumes' | 'pool'>,
): NodeCandidate {
  const hostname = metadata?.labels?.[HOSTNAME_LABEL] ?? '';
  return { node: metadata?.name ?? '', hostname, foreignBytes: foreignBytes(volumes, pool, hostname) };
}
