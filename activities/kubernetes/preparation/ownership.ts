/** Whose a MachineConfig or a StorageClass is: marks that a copy of the object under another name does not keep. */
import { asyncLocalStorage } from '@temporalio/activity';
import type { ProvisionerRef } from '../../types/preparation.js';

/** Label on what is made for a HostPathProvisioner: its uid. */
export const MADE_FOR = 'dvflow.io/made-for';
/** Annotation beside it: its name, so that it can be asked for when it is gone. */
export const MADE_BY = 'dvflow.io/host-path-provisioner';
/** Annotation: the object's own name when it was made. Labels are copied with an object; in a copy this is another's name. */
const MADE_AS = 'dvflow.io/made-as';
/** Annotation: the workflow run that made it, so that a second attempt of that run knows what the first one made. */
const MADE_IN = 'dvflow.io/made-in-run';

/** The metadata that decides. */
export interface MarkedMeta {
  readonly name?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

/** What says for whom an object of this name is; the same for every run. */
export function ownershipMarks(
  { name: by, uid }: ProvisionerRef,
  name: string,
): { readonly labels: Record<string, string>; readonly annotations: Record<string, string> } {
  return { labels: { [MADE_FOR]: uid }, annotations: { [MADE_BY]: by, [MADE_AS]: name } };
}

/** Beside them at creation: which run made it. Outside of a workflow it is nobody's. */
export function runMark(): Record<string, string> {
  const run = runId();
  return run === undefined ? {} : { [MADE_IN]: run };
}

/** dvflow made this very object. */
export function isOwn({ name, labels, annotations }: MarkedMeta): boolean {
  return labels?.[MADE_FOR] !== undefined && name !== undefined && annotations?.[MADE_AS] === name;
}

/** dvflow made it for another HostPathProvisioner that had this one's name. */
export function isOfPredecessor(metadata: MarkedMeta, { name, uid }: ProvisionerRef): boolean {
  const { labels, annotations } = metadata;
  return isOwn(metadata) && annotations?.[MADE_BY] === name && labels?.[MADE_FOR] !== uid;
}

/** This very run made it, be it in an attempt of which nobody heard. */
export function isOfThisRun(metadata: MarkedMeta): boolean {
  const run = runId();
  return run !== undefined && isOwn(metadata) && metadata.annotations?.[MADE_IN] === run;
}

function runId(): string | undefined {
  return asyncLocalStorage.getStore()?.info.workflowExecution?.runId;
}
