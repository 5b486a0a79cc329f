/** DataVolumes: read, created for a manifest, opened for a run. */
import { Context } from '@temporalio/activity';
import { permanentFailure, transientFailure } from '../failures.js';
import type { ControlActivities } from '../interfaces.js';
import type { DataVolumeFacts, DataVolumeManifest, DataVolumeRef, DataVolumeStart } from '../types.js';
import { call, callIfFound, MERGE_PATCH } from './client.js';
import type { Kubernetes } from './client.js';
import { createDataVolume, nameOf, NO_POPULATOR, specAsServed, type Wanted } from './create-data-volume.js';
import { factsOf, finishedBy, isTerminal, refuseOtherWorkflow, servedBy } from './data-volume-facts.js';
import { differingField } from './differing-field.js';
import type { ExecutionObserver } from './executions.js';
import { readManifest } from './manifests.js';
import type { ReadManifest } from './manifests.js';
import { CDI_ANNOTATIONS, CDI_GROUP, CDI_VERSION, lifecycleWorkflowId, MARKS } from './names.js';
import type { DataVolume } from './objects.js';
import { refuseUnsupportedSource } from './sources.js';

/** What the activities of DataVolumes need. */
export interface DataVolumeDependencies {
  readonly kubernetes: Kubernetes;
  /** Asked whether the run that the watch started is under way. */
  readonly executions: Pick<ExecutionObserver, 'stateOf'>;
  /** Its name is part of the Kubernetes user who creates DataVolumes. */
  readonly temporalNamespace: string;
}

/** Address of a DataVolume for the custom objects API. */
export function dataVolumePath(namespace: string): {
  group: string;
  version: string;
  namespace: string;
  plural: string;
} {
  return { group: CDI_GROUP, version: CDI_VERSION, namespace, plural: 'datavolumes' };
}

/** The DataVolume of this name, whoever it is. */
export async function findDataVolume(
  { custom }: Pick<Kubernetes, 'custom'>,
  { namespace, name }: { namespace: string; name: string },
): Promise<DataVolume | undefined> {
  const found: unknown = await callIfFound(
    `reading DataVolume ${namespace}/${name}`,
    custom.getNamespacedCustomObject({ ...dataVolumePath(namespace), name }),
  );
  return found as DataVolume | undefined;
}

/**
 * The DataVolume of this name and uid.
 *
 * @throws {@link FailureType} `InvalidDataVolume` when it is gone or being deleted: its lifecycle is over
 */
export async function readDataVolume(kubernetes: Kubernetes, ref: DataVolumeRef): Promise<DataVolume> {
  const found = await findDataVolume(kubernetes, ref);
  if (found?.metadata.uid !== ref.uid || found.metadata.deletionTimestamp) {
    throw permanentFailure(
      'InvalidDataVolume',
      `DataVolume ${ref.namespace}/${ref.name} (${ref.uid}) is gone`,
    );
  }
  return found;
}

/** Id of the workflow that called this activity. */
export function currentWorkflow(): string {
  return Context.current().info.workflowExecution?.workflowId ?? '';
}

function currentWorkflowType(): string | undefined {
  return Context.current().info.workflowType;
}

/** Activities that open a lifecycle. */
export function createDataVolumeActivities({
  kubernetes,
  executions,
  temporalNamespace,
}: DataVolumeDependencies): Pick<ControlActivities, 'nameDataVolume' | 'openDataVolume'> {
  async function openDataVolume(input: {
    start?: DataVolumeStart;
    manifest?: DataVolumeManifest | string;
  }): Promise<DataVolumeFacts> {
    if (input.start) return await openStarted(input.start);
    if (input.manifest === undefined)
      throw permanentFailure('InvalidDataVolume', 'neither a DataVolume nor a manifest');
    return await openManifest(readManifest(input.manifest));
  }

  async function openStarted(start: DataVolumeStart): Promise<DataVolumeFacts> {
    const found = await readDataVolume(kubernetes, start);
    refuseOtherWorkflow(found, currentWorkflow());
    // under any other phase its own failure would be written over it, as that of a workflow which serves the DataVolume
    if (isTerminal(found.status?.phase)) await refuseBesideRetry(found);
    refuseUnsupportedSource(found.spec, currentWorkflowType());
    // clients read WaitForFirstConsumer rightly only where no populator is in use
    if (found.metadata.annotations?.[CDI_ANNOTATIONS.usePopulator] !== 'false')
      await annotate(found, NO_POPULATOR);
    const facts = factsOf(found);
    if (start.retry === undefined) return { ...facts, ...finishedBy(facts.phase) };
    return await reopen(found, start.retry);
  }

  /** A retry runs under the id of the watch, whoever made the DataVolume: it may have begun and not answered yet. */
  async function refuseBesideRetry(found: DataVolume): Promise<void> {
    const retrying = lifecycleWorkflowId(found.metadata);
    if (currentWorkflow() === retrying || (await executions.stateOf(retrying)) !== 'running') return;
    throw servedBy(retrying, found);
  }

  /** Writes the answer first, then resets: a run that dies between the two goes on with its next attempt, by its run id. */
  async function reopen(found: DataVolume, retry: string): Promise<DataVolumeFacts> {
    const { annotations = {} } = found.metadata;
    const { runId } = Context.current().info.workflowExecution ?? { runId: '' };
    const phase = found.status?.phase;
    const answered = annotations[MARKS.retried] === retry;
    if (answered && annotations[MARKS.retriedBy] !== runId)
      return { ...factsOf(found), ...finishedBy(phase) };
    if (!answered) await annotate(found, { [MARKS.retried]: retry, [MARKS.retriedBy]: runId });
    // a disk that is complete is never filled again
    if (phase === 'Succeeded') return { ...factsOf(found), finished: true };
    if (phase === 'Failed') await resetStatus(found);
    return factsOf({ ...found, status: { phase: 'Pending' } });
  }

  async function openManifest(manifest: ReadManifest): Promise<DataVolumeFacts> {
    refuseUnsupportedSource(manifest.spec, currentWorkflowType());
    const user = `dvflow:temporal:${temporalNamespace}`;
    const wanted = { manifest, user, workflowId: currentWorkflow() };
    const created = await createDataVolume(kubernetes, wanted);
    if (created) return factsOf(created);
    const found = await findDataVolume(kubernetes, manifest);
    if (!found)
      throw transientFailure(
        'KubernetesUnavailable',
        `${nameOf(manifest)} exists and is gone: creating it again`,
      );
    return await adopt(found, wanted);
  }

  /**
   * The DataVolume that an earlier attempt made, or an earlier run of this id for the same manifest: unless a run under the watch's id
   * has taken it over.
   */
  async function adopt(found: DataVolume, wanted: Wanted): Promise<DataVolumeFacts> {
    const { annotations = {} } = found.metadata;
    const exists = (how: string): Error =>
      permanentFailure('ResourceExists', `${nameOf(found.metadata)} ${how}`);
    if (annotations[MARKS.workflowId] !== wanted.workflowId)
      throw exists('already exists and is not of this workflow');
    await refuseBesideRetry(found);
    const phase = found.status?.phase;
    // one that was answered and has ended leaves its last phase to the watch
    if (!isTerminal(phase)) refuseOtherWorkflow(found, wanted.workflowId);
    if (phase === 'Failed')
      throw exists('is Failed since an earlier run of this workflow: delete it, or use dvflow retry');
    // who asks for another disk must not be told that it is there
    const differs = await differenceOf(found, wanted);
    if (differs !== undefined)
      throw exists(
        `was made by an earlier run of this workflow, of another manifest (${differs}): delete it, or choose another name`,
      );
    return { ...factsOf(found), ...finishedBy(phase) };
  }

  /** The field that the manifest has otherwise, also when admission has done its part. */
  async function differenceOf({ spec }: DataVolume, wanted: Wanted): Promise<string | undefined> {
    const differs = differingField(wanted.manifest.spec, spec);
    if (differs === undefined) return undefined;
    const served = await specAsServed(kubernetes, wanted);
    return served && differingField(served, spec) === undefined ? undefined : differs;
  }

  async function annotate(found: DataVolume, annotations: Record<string, string>): Promise<void> {
    const { name, namespace, uid } = found.metadata;
    await call(
      `annotating DataVolume ${namespace}/${name}`,
      kubernetes.custom.patchNamespacedCustomObject(
        { ...dataVolumePath(namespace), name, body: { metadata: { uid, annotations } } },
        MERGE_PATCH,
      ),
    );
  }

  async function resetStatus(found: DataVolume): Promise<void> {
    const { name, namespace, uid } = found.metadata;
    await call(
      `resetting the phase of DataVolume ${namespace}/${name}`,
      kubernetes.custom.patchNamespacedCustomObjectStatus(
        {
          ...dataVolumePath(namespace),
          name,
          body: { metadata: { uid }, status: { phase: 'Pending', progress: 'N/A', restartCount: 0 } },
        },
        MERGE_PATCH,
      ),
    );
  }

  async function nameDataVolume({
    manifest,
  }: {
    manifest: string;
  }): Promise<{ namespace: string; name: string }> {
    const { namespace, name } = readManifest(manifest);
    return { namespace, name };
  }

  return { nameDataVolume, openDataVolume };
}
