import { ApplicationFailure, workflowInfo } from '@temporalio/workflow';
import { WORKFLOW_TYPES } from './workflow-types.js';

/**
 * Answers the start of a type that does not exist, which a person has typed in the Temporal UI: one that is written in another way, or
 * not to its end, is refused by the name that was meant. Any other one may be known to newer workers, as in a rollout: its task fails
 * until one of them takes it.
 * @throws {@link FailureType} `InvalidArgument`
 */
export async function otherType(): Promise<never> {
  const { workflowType } = workflowInfo();
  const typed = plain(workflowType);
  const meant = WORKFLOW_TYPES.filter((type) => typed !== '' && plain(type).startsWith(typed));
  if (meant.length === 0) throw new Error(`no workflow type ${workflowType} is known to this worker`);
  throw ApplicationFailure.create({
    type: 'InvalidArgument',
    message: `there is no workflow type ${workflowType}: start ${meant.join(' or ')}`,
    nonRetryable: true,
  });
}

/** What people vary: capitals, spaces, hyphens. */
function plain(type: string): string {
  return type.toLowerCase().replace(/[^a-z]/gu, '');
}
