/** Which workflow serves a claim without a DataVolume: the one whose id the claim's uid gives, which the watch starts. */
import { permanentFailure } from '../failures.js';
import type { ClaimRef } from '../types.js';
import { currentWorkflow } from './data-volumes.js';

/** Whether the workflow that called this activity is another one than that of this id. */
export function isOtherWorkflow(workflowId: string): boolean {
  return currentWorkflow() !== workflowId;
}

/**
 * Temporal's UI starts a workflow like another one under an id of its own: it would take the volume over that the other one fills, and
 * remove it at its end. Whether that one is under way does not matter: where the claim asks, the watch starts it.
 * @throws {@link FailureType} `ResourceExists` for any workflow but that of this id
 */
export function refuseOtherWorkflow(workflowId: string, { namespace, name }: ClaimRef): void {
  if (!isOtherWorkflow(workflowId)) return;
  throw permanentFailure(
    'ResourceExists',
    `claim ${namespace}/${name} is served by workflow ${workflowId}, which dvflow starts as long as the claim asks: start no other one`,
  );
}
