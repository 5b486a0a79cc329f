import type { Client } from '@temporalio/client';
import { isAwaitingRestore, servingWorkflow } from '../../activities/kubernetes/data-volume-facts.js';
import { createExecutionObserver } from '../../activities/kubernetes/executions.js';
import type { DataVolumeObject } from './objects.js';

/** DataVolumes that are asked for; more are only counted. */
export const MOST_RUNS = 200;

/** How the run of a DataVolume stands; `unknown`: Temporal knows none. */
export type RunStanding = 'running' | 'closed' | 'unknown';

const TERMINAL: readonly (string | undefined)[] = ['Succeeded', 'Failed'];

/** DataVolumes that are not at their end; one whose claim is being restored needs no run. */
export function openDataVolumesOf(dataVolumes: readonly DataVolumeObject[]): readonly DataVolumeObject[] {
  return dataVolumes.filter(({ status }) => !TERMINAL.includes(status?.phase) && !isAwaitingRestore(status));
}

/** Asks Temporal, by id, for the runs of DataVolumes; by uid. */
export async function readRuns(
  client: Client,
  dataVolumes: readonly DataVolumeObject[],
): Promise<ReadonlyMap<string, RunStanding>> {
  const standings = await Promise.all(
    dataVolumes
      .slice(0, MOST_RUNS)
      .map(async ({ metadata }) => [metadata.uid, await standingOf(client, metadata)] as const),
  );
  return new Map(standings);
}

function standingOf(client: Client, metadata: DataVolumeObject['metadata']): Promise<RunStanding> {
  return createExecutionObserver(client).stateOf(servingWorkflow({ metadata }));
}
