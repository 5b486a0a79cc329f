/** Status and events of HostPathProvisioners. */
import type { PreparationControlActivities } from '../../preparation-interfaces.js';
import type { NodeStatus, PreparationStatusUpdate } from '../../types/preparation.js';
import { callForOutcome, MERGE_PATCH, type Kubernetes } from '../client.js';
import { recordEvent } from '../events.js';
import type { WatchedProvisioner } from './objects.js';
import { findProvisioner, PROVISIONERS, referenceTo } from './provisioners.js';

/** Nodes that a status lists at most: the object stays small, and the conditions count all of them. */
export const MAX_NODES = 500;

/** A condition's message ends here, in characters, as Kubernetes' own do. */
const MAX_MESSAGE = 32_768;

/** Activities that tell. */
export function createPreparationStatusActivities({
  kubernetes,
}: {
  kubernetes: Kubernetes;
}): Pick<PreparationControlActivities, 'recordPreparation' | 'recordPreparationEvent'> {
  async function recordPreparation(update: PreparationStatusUpdate): Promise<{ exists: boolean }> {
    const { name, uid } = update.provisioner;
    const found = await findProvisioner(kubernetes, name);
    if (found?.metadata.uid !== uid) return { exists: false };
    const written = await callForOutcome(
      `writing the status of HostPathProvisioner ${name}`,
      kubernetes.custom.patchClusterCustomObjectStatus(
        {
          ...PROVISIONERS,
          name,
          body: { metadata: { uid }, status: statusOf(found.status, update, new Date()) },
        },
        MERGE_PATCH,
      ) as Promise<object>,
    );
    return { exists: typeof written !== 'string' };
  }

  return {
    recordPreparation,
    recordPreparationEvent: async ({ provisioner, event }) =>
      await recordEvent(kubernetes, referenceTo(provisioner), event),
  };
}

/** The status to write; a condition that says what it said before keeps its time. */
export function statusOf(
  before: WatchedProvisioner['status'],
  { generation, conditions, nodes, pools = [] }: PreparationStatusUpdate,
  at: Date,
): object {
  const now = `${at.toISOString().slice(0, 19)}Z`;
  return {
    observedGeneration: generation,
    conditions: conditions.map((condition) => {
      const old = before?.conditions?.find(({ type }) => type === condition.type);
      const since = old?.status === condition.status ? old.lastTransitionTime : undefined;
      return {
        ...condition,
        message: condition.message.slice(0, MAX_MESSAGE),
        lastTransitionTime: since ?? now,
        lastHeartbeatTime: now,
      };
    }),
    nodes: nodes.slice(0, MAX_NODES),
    ...(pools.length === 0 ? {} : { storagePoolStatuses: pools.map((name) => poolStatus(name, nodes)) }),
  };
}

/** As hostpath-provisioner's operator tells pools: its phases are `Preparing` and `Ready`. */
function poolStatus(name: string, nodes: readonly NodeStatus[]): object {
  const currentReady = nodes.filter(({ phase }) => phase === 'Ready').length;
  const phase = currentReady > 0 && currentReady === nodes.length ? 'Ready' : 'Preparing';
  return { name, phase, desiredReady: nodes.length, currentReady };
}
