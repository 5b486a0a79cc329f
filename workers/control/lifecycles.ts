import type { WorkflowStartOptions } from '@temporalio/client';
import { WorkflowIdConflictPolicy, WorkflowIdReusePolicy } from '@temporalio/common';
import { displayUrl } from '../../activities/image/source/display-url.js';
import type { DataVolume } from '../../activities/kubernetes/objects.js';
import { cloneName } from '../../activities/kubernetes/clone-names.js';
import { sourceKind, sourceUrl } from '../../activities/kubernetes/sources.js';
import type { DataVolumeRef, DataVolumeStart, SourceKind } from '../../activities/types.js';
import { SEARCH_ATTRIBUTES } from '../../workflows/messages.js';
import { CONTROL_QUEUE, dataVolumeWorkflowId } from '../../workflows/task-queues.js';

/** Workflow types of the lifecycles that the watch starts. */
export type WorkflowType = 'importDataVolume' | 'blankDataVolume' | 'cloneDataVolume' | 'uploadDataVolume';

/** Sources with a lifecycle of their own. */
const OWN: Partial<Record<SourceKind, WorkflowType>> = {
  blank: 'blankDataVolume',
  pvc: 'cloneDataVolume',
  snapshot: 'cloneDataVolume',
  sourceRef: 'cloneDataVolume',
  upload: 'uploadDataVolume',
};

/** What each does, for Temporal's list. */
const VERBS: Readonly<Record<WorkflowType, string>> = {
  importDataVolume: 'Import',
  blankDataVolume: 'Create blank disk',
  cloneDataVolume: 'Clone',
  uploadDataVolume: 'Upload',
};

/** Which workflow serves a DataVolume; without one, why not (yet). */
export type Lifecycle =
  | { readonly workflowType: WorkflowType; readonly source: SourceKind }
  | { readonly workflowType?: never; readonly source: SourceKind; readonly reason: string };

/** Sources whose lifecycle comes with a later release: they wait, phase empty, until it is there. */
const NOT_YET: Partial<Record<SourceKind, string>> = {
  external: 'a DataVolume that is populated from outside (dataSource, dataSourceRef)',
};

/**
 * Chooses the lifecycle by the source. Sources that no release will serve as they are (`imageio`, `vddk`) go to the import
 * too: it fails them with `UnsupportedSource`, so that phases have one writer.
 */
export function pickLifecycle({ spec }: Pick<DataVolume, 'spec'>): Lifecycle {
  const source = sourceKind(spec);
  const what = NOT_YET[source];
  if (what === undefined) return { workflowType: OWN[source] ?? 'importDataVolume', source };
  return {
    source,
    reason: `${what} is not served by this release of dvflow; the DataVolume waits until one that serves it is installed`,
  };
}

/** Identity of a DataVolume. */
export function refOf({ metadata: { namespace, name, uid } }: Pick<DataVolume, 'metadata'>): DataVolumeRef {
  return { namespace, name, uid };
}

/** Whoever comes second gets the run of the first. */
const ONE_RUN = {
  workflowIdReusePolicy: WorkflowIdReusePolicy.REJECT_DUPLICATE,
  workflowIdConflictPolicy: WorkflowIdConflictPolicy.USE_EXISTING,
} as const;

/** Whoever comes second is told: the run under way may answer another value, or clean up. */
const ANOTHER_RUN = {
  workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
  workflowIdConflictPolicy: WorkflowIdConflictPolicy.FAIL,
} as const;

/**
 * Options by which every replica may start the same run: the first one wins, and a run that has ended is not started again.
 * Only a retry may follow an earlier run; it throws `WorkflowExecutionAlreadyStartedError` while one runs.
 */
export function startOptions(
  dataVolume: DataVolume,
  source: SourceKind,
  retry?: string,
): WorkflowStartOptions {
  const ref = refOf(dataVolume);
  const url = sourceUrl(dataVolume.spec);
  const workflowType = OWN[source] ?? 'importDataVolume';
  const cloned = cloneName(dataVolume);
  const from =
    url !== undefined
      ? ` from ${displayUrl(url)}`
      : cloned !== undefined
        ? ` from ${cloned}`
        : ` (${source})`;
  const start: DataVolumeStart = { ...ref, ...(retry === undefined ? {} : { retry }) };
  return {
    workflowId: dataVolumeWorkflowId(ref),
    taskQueue: CONTROL_QUEUE,
    args: [start],
    ...(retry === undefined ? ONE_RUN : ANOTHER_RUN),
    typedSearchAttributes: [
      { key: SEARCH_ATTRIBUTES.namespace, value: ref.namespace },
      { key: SEARCH_ATTRIBUTES.name, value: ref.name },
      { key: SEARCH_ATTRIBUTES.uid, value: ref.uid },
      { key: SEARCH_ATTRIBUTES.phase, value: 'Pending' },
      { key: SEARCH_ATTRIBUTES.source, value: source },
    ],
    // Temporal keeps 200 bytes of it for its list.
    staticSummary: Buffer.from(`${VERBS[workflowType]} ${ref.namespace}/${ref.name}${from}`)
      .subarray(0, 190)
      .toString(),
    staticDetails: `DataVolume \`${ref.name}\` in namespace \`${ref.namespace}\`${from}. Cancel removes everything but the DataVolume.`,
  };
}
