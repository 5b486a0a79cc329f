import { ApplicationFailure, type Client } from '@temporalio/client';
import type { BlankResult } from '../activities/types/blank.js';
import type { CloneResult } from '../activities/types/clone.js';
import type { DataVolumeManifest, FailureType, ImportResult } from '../activities/types.js';
import { SEARCH_ATTRIBUTES } from '../workflows/messages.js';
import { CONTROL_QUEUE } from '../workflows/task-queues.js';
import { readManifest, type ManifestFacts } from './manifest.js';
import { outlastOutages } from './outages.js';
import { status, type ImportStatus } from './status.js';

/** How a lifecycle is started. */
export interface StartOptions {
  /** @default `<import, blank, clone or upload>/<namespace>/<name>` */
  readonly workflowId?: string;
}

/** How an import is started. */
export type StartImportOptions = StartOptions;

/** One lifecycle under way. */
export interface LifecycleHandle<T> {
  readonly workflowId: string;
  readonly runId: string;
  /**
   * Where the disk is, once it is complete, verified and synced. Waits through outages of Temporal, which the run outlasts; a program
   * that wants a bound calls it inside `withAbortSignal` or `withDeadline` of its client.
   * @throws what `failureOf` reads
   */
  result(): Promise<T>;
  /** The workflow's own facts and the live progress. */
  status(): Promise<ImportStatus>;
  /** Asks for cancellation; `result()` rejects once everything that was made is removed. */
  cancel(): Promise<void>;
}

/** One import under way. */
export type ImportHandle = LifecycleHandle<ImportResult>;

/** One clone under way. */
export type CloneHandle = LifecycleHandle<CloneResult>;

/** One blank disk under way. */
export type BlankHandle = LifecycleHandle<BlankResult>;

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
  const lifecycle = { workflowType: 'importDataVolume', prefix: 'import', does: 'Import' };
  return await startLifecycle(client, lifecycle, dataVolume, options);
}

/**
 * Starts the making of a blank disk, of a DataVolume that does not exist yet, as {@link startImport} starts an import.
 * @throws WorkflowExecutionAlreadyStartedError while a run of this id is under way
 * @throws ManifestError for a manifest without a name
 */
export async function startBlank(
  client: Client,
  dataVolume: DataVolumeManifest,
  options: StartOptions = {},
): Promise<BlankHandle> {
  const lifecycle = { workflowType: 'blankDataVolume', prefix: 'blank', does: 'Create blank disk' };
  return await startLifecycle(client, lifecycle, dataVolume, options);
}

/**
 * Starts the clone of a claim into a DataVolume that does not exist yet, as {@link startImport} starts an import. Whether the claim may
 * be cloned is judged for the user that the workflow impersonates.
 * @throws WorkflowExecutionAlreadyStartedError while a run of this id is under way
 * @throws ManifestError for a manifest without a name
 */
export async function startClone(
  client: Client,
  dataVolume: DataVolumeManifest,
  options: StartOptions = {},
): Promise<CloneHandle> {
  const lifecycle = { workflowType: 'cloneDataVolume', prefix: 'clone', does: 'Clone' };
  return await startLifecycle(client, lifecycle, dataVolume, options);
}

/**
 * Starts an upload into a DataVolume that does not exist yet, as {@link startImport} starts an import. The file comes by the gateway
 * once the DataVolume is `UploadReady`; the result is there when its disk is complete.
 * @throws WorkflowExecutionAlreadyStartedError while a run of this id is under way
 * @throws ManifestError for a manifest without a name
 */
export async function startUpload(
  client: Client,
  dataVolume: DataVolumeManifest,
  options: StartOptions = {},
): Promise<ImportHandle> {
  const lifecycle = { workflowType: 'uploadDataVolume', prefix: 'upload', does: 'Upload' };
  return await startLifecycle(client, lifecycle, dataVolume, options);
}

/** A kind of lifecycle: its type, how its ids begin, and what it does in words. */
interface Lifecycle {
  readonly workflowType: string;
  readonly prefix: string;
  readonly does: string;
}

async function startLifecycle<T>(
  client: Client,
  lifecycle: Lifecycle,
  dataVolume: DataVolumeManifest,
  options: StartOptions,
): Promise<LifecycleHandle<T>> {
  const facts = readManifest(dataVolume);
  const workflowId = options.workflowId ?? `${lifecycle.prefix}/${facts.namespace}/${facts.name}`;
  // By name: this module must not pull workflow code into the programs that use it.
  const handle = await client.workflow.start(lifecycle.workflowType, {
    taskQueue: CONTROL_QUEUE,
    workflowId,
    args: [dataVolume],
    typedSearchAttributes: searchAttributesOf(facts),
    ...describe(facts, lifecycle),
  });
  const target = { workflowId, runId: handle.firstExecutionRunId };
  return {
    ...target,
    result: async () =>
      ((await outlastOutages(client, () => handle.result())) as T | undefined) ?? existed(facts, workflowId),
    status: async () => await status(client, target),
    cancel: async () => {
      await handle.cancel();
    },
  };
}

/** A run that finds its DataVolume finished by an earlier run of the same id and manifest does nothing. */
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
function describe({ namespace, name, displayUrl }: ManifestFacts, { does }: Lifecycle) {
  const from = displayUrl ? ` from ${displayUrl}` : '';
  return {
    staticSummary: `${does} ${namespace}/${name}${from}`.slice(0, 200),
    staticDetails: `DataVolume \`${name}\` in namespace \`${namespace}\`${from}. Cancel removes everything but the DataVolume.`,
  };
}
