/** Queue of every workflow and of the activities that talk to Kubernetes or probe a source. */
export const CONTROL_QUEUE = 'dvflow';

/** Queue of short work on one node: observe, reserve, verify, remove. */
export function nodeQueue(node: string): string {
  return `dvflow-node-${node}`;
}

/** Queue of byte moving on one node; its slots are the transfers at once. */
export function transferQueue(node: string): string {
  return `dvflow-transfer-${node}`;
}

/** Queue of volumes that a node serves to clones on other nodes: each takes a slot until the clone is over, and costs little else. */
export function servingQueue(node: string): string {
  return `dvflow-serve-${node}`;
}

/** Workflow id of the lifecycle that the watch starts for a DataVolume. */
export function dataVolumeWorkflowId(dataVolume: { namespace: string; name: string; uid: string }): string {
  return `datavolume/${dataVolume.namespace}/${dataVolume.name}/${dataVolume.uid}`;
}

/** Workflow id that gives a plain claim its volume. */
export function provisionWorkflowId(claim: { namespace: string; name: string; uid: string }): string {
  return `provision/${claim.namespace}/${claim.name}/${claim.uid}`;
}

/** Workflow id that fills a claim which asks for an upload and has no DataVolume. */
export function uploadClaimWorkflowId(claim: { namespace: string; name: string; uid: string }): string {
  return `upload/${claim.namespace}/${claim.name}/${claim.uid}`;
}

/** Workflow id that reclaims one released PersistentVolume. */
export function reclaimWorkflowId(volumeUid: string): string {
  return `reclaim/${volumeUid}`;
}

/** Id of the workflow that tells the scheduler the room in the pools. */
export const CAPACITY_WORKFLOW = 'dvflow-capacity';

/** Workflow id that prepares the nodes for a HostPathProvisioner. */
export function prepareStorageWorkflowId({ name, uid }: { name: string; uid: string }): string {
  return `hostpathprovisioner/${name}/${uid}`;
}

/** Workflow id by which a node's worker that has just started has its directories looked at again. */
export function recheckNodeWorkflowId(node: string): string {
  return `recheck-node/${node}`;
}

/** Id of the Schedule that runs the sweeper. */
export const SWEEP_SCHEDULE = 'dvflow-sweep';

/** Workflow id that gives back the static volume which a DataVolume's run had reserved. */
export function returnWorkflowId(dataVolumeUid: string): string {
  return `${SWEEP_SCHEDULE}/${dataVolumeUid}`;
}
