import { ApplicationFailure, type Client } from '@temporalio/client';
import type { DataVolumeManifest, FailureType, ImportResult } from '../activities/types.js';
import { SEARCH_ATTRIBUTES } from '../workflows/messages.js';
import { CONTROL_QUEUE } from '../workflows/task-queues.js';
import { readManifest, type ManifestFacts } from './manifest.js';
import { status, type ImportStatus } from './status.js';

/** How an import is started. */
export interface StartImportOptions {
  /** @default `import/<namespace>/<name>` */
  readonly workflowId?: string;
}

/** One import under way. */
export interface ImportHandle {
  readonly workflowId: string;
  readonly runId: string;
  /** Where the disk is, once it is complete, verified and synced. @throws what `failureOf` reads */
  result(): Promise<ImportResult>;
  /** The workflow's own facts and the live progress. */
  status(): Promise<ImportStatus>;
  /** Asks for cancellation; `result()` rejects once everything that was made is removed. */
  cancel(): Promise<void>;
}

/**
 * Starts the import of a DataVolume that does not exist yet; the workflow creates it. The manifest goes to the API server as it is,
 * which judges it as it would judge `kubectl create`.
 * @throws WorkflowExecutionAlreadyStartedError while an import of this id runs
 * @throws ManifestError for a manifest without a name or with a credential in it
 */
export async function startImport(
  client: Client,
  dataVolume: DataVolumeManifest,
  options: StartImportOptions = {},
): Promise<ImportHandle> {
  const facts = readManifest(dataVolume);
  const workflowId = options.workflowId ?? `import/${facts.namespace}/${facts.name}`;
  // By name: this module must not pull workflow code into the programs that use it.
  const handle = await client.workflow.start('importDataVolume', {
    taskQueue: CONTROL_QUEUE,
    workflowId,
    args: [dataVolume],
    typedSearchAttributes: searchAttributesOf(facts),
    ...describe(facts),
  });
  const target = { workflowId, runId: handle.firstExecutionRunId };
  return {
    ...target,
    result: async () => ((await handle.result()) as ImportResult | undefined) ?? existed(facts, workflowId),
    status: async () => await status(client, target),
    cancel: async () => {
      await handle.cancel();
    },
  };
}

/** A run that finds its DataVolume finished by an earlier run of the same id does nothing, whatever it was asked to import. */
function existed({ namespace, name }: ManifestFacts, workflowId: string): never {
  throw ApplicationFailure.create({
    type: 'ResourceExists' satisfies FailureType,
    message: `DataVolume ${namespace}/${name} exists, made by an earlier run of ${workflowId}: delete it, or choose another name`,
    nonRetryable: true,
  });
}

function searchAttributesOf({ namespace, name, source }: ManifestFacts) {
  return [
    { key: SEARCH_ATTRIBUTES.namespace, value: namespace },
    { key: SEARCH_ATTRIBUTES.name, value: name },
    { key: SEARCH_ATTRIBUTES.phase, value: 'Pending' },
    ...(source ? [{ key: SEARCH_ATTRIBUTES.source, value: source }] : []),
  ];
}

/** What the Temporal UI shows beside the id. */
function describe({ namespace, name, displayUrl }: ManifestFacts) {
  const from = displayUrl ? ` from ${displayUrl}` : '';
  return {
    staticSummary: `Import ${namespace}/${name}${from}`.slice(0, 200),
    staticDetails: `DataVolume \`${name}\` in namespace \`${namespace}\`${from}. Cancel removes everything but the DataVolume.`,
  };
}
