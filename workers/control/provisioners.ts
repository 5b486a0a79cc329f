/**
 * Brings each HostPathProvisioner and the run that prepares it together, level-based (`design.md` §2): one that is new, changed or
 * gone is looked at, and so are all of them when a node comes, goes, or becomes another one. The run itself decides what there is to
 * do: after a removal it removes what was made. Every replica does all of it.
 */
import type { KubeConfig, V1Node } from '@kubernetes/client-node';
import type { Client } from '@temporalio/client';
import type { Logger } from '@temporalio/common';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { HPP_GROUP, HPP_VERSION, MARKS } from '../../activities/kubernetes/names.js';
import type { WatchedProvisioner } from '../../activities/kubernetes/preparation/objects.js';
import { listOrphans } from '../../activities/kubernetes/preparation/orphans.js';
import { findPreparation, lookAgain } from '../../activities/kubernetes/preparation/runs.js';
import { prepareStorageWorkflowId } from '../../workflows/task-queues.js';
import { createKeyQueue } from './key-queue.js';
import { startListWatch, type ListWatch, type WatchedObject } from './list-watch.js';
import type { RunFacts, Runs } from './runs.js';
import { failedLately } from './volumes.js';

/** How old a finished preparation may be before the nodes are looked at again without a reason, in ms. */
const PREPARED_AGAIN_MS = 6 * 3_600_000;

/** Nodes that change together are answered together, in ms. */
const NODES_SETTLE_MS = 2_000;

/** Stands in the queue for all HostPathProvisioners, and for what was made for some that are gone; no object's name has a space. */
const ALL = 'all of them';
const ORPHANS = 'those that are gone';

type Provisioner = WatchedProvisioner & WatchedObject;

/** What the watch works with. */
export interface ProvisionerWatchOptions {
  readonly kubeConfig: KubeConfig;
  readonly kubernetes: Kubernetes;
  readonly client: Client;
  readonly runs: Pick<Runs, 'describe'>;
  readonly logger: Logger;
  readonly relistMs?: number | undefined;
}

/** Starts to watch HostPathProvisioners and nodes. */
export function watchProvisioners(
  options: ProvisionerWatchOptions,
): Pick<ListWatch<Provisioner>, 'synced' | 'stop'> {
  const { client, runs, kubernetes, logger } = options;
  /** Those that something has been heard about, by key; a name may have been used several times. */
  const heard = new Map<string, Provisioner>();
  const queue = createKeyQueue(work, logger);
  const list: ListWatch<Provisioner> = startListWatch<Provisioner>({
    ...options,
    path: `/apis/${HPP_GROUP}/${HPP_VERSION}/hostpathprovisioners`,
    changed(key, { before, after }) {
      if (before && before.metadata.uid !== after?.metadata.uid) note(before);
      if (!after) return;
      if (before && fingerprint(before) !== fingerprint(after)) note(after);
      else queue.add(key);
    },
    listed: () => queue.add(ORPHANS),
  });
  const nodes = startListWatch<V1Node & WatchedObject>({
    ...options,
    path: '/api/v1/nodes',
    changed(_key, { before, after }) {
      if (nodeFingerprint(before) !== nodeFingerprint(after)) queue.addAfter(ALL, NODES_SETTLE_MS);
    },
  });

  function note(provisioner: Provisioner): void {
    const key = `${provisioner.metadata.name} ${provisioner.metadata.uid}`;
    heard.set(key, provisioner);
    queue.add(key);
  }

  async function work(key: string): Promise<void> {
    if (key === ALL) return await answerNodes();
    if (key === ORPHANS) return await removeOrphans();
    const noted = heard.get(key);
    if (!noted) return await check(list.get(key));
    // before the call: what is heard during it is to be told too
    heard.delete(key);
    try {
      await lookAgain(client, noted.metadata);
    } catch (error) {
      if (!heard.has(key)) heard.set(key, noted);
      throw error;
    }
  }

  /** At the first list of nodes every one of them is new: whether there is anything to do is then judged as for any object. */
  async function answerNodes(): Promise<void> {
    for (const provisioner of list.all()) {
      if (!provisioner.metadata.deletionTimestamp && nodes.synced())
        await lookAgain(client, provisioner.metadata);
    }
  }

  /** An object that is as it was: only where its run was missed, or was too long ago. */
  async function check(provisioner: Provisioner | undefined): Promise<void> {
    if (!provisioner || provisioner.metadata.deletionTimestamp) return;
    if (await findPreparation(client, provisioner.metadata)) return;
    const latest = await runs.describe(prepareStorageWorkflowId(provisioner.metadata));
    if (isDue(provisioner, latest, Date.now())) await lookAgain(client, provisioner.metadata);
  }

  async function removeOrphans(): Promise<void> {
    for (const ref of await listOrphans(kubernetes)) {
      logger.info('removing what was made for a HostPathProvisioner that is gone', { ...ref });
      await lookAgain(client, ref);
    }
  }

  return {
    synced: () => list.synced() && nodes.synced(),
    async stop() {
      await Promise.all([list.stop(), nodes.stop()]);
      await queue.stop();
    },
  };
}

/** Whether an object that nothing was heard about needs a run; `latest` is the last one under the watch's id. */
export function isDue(
  { metadata, status }: WatchedProvisioner,
  latest: Pick<RunFacts, 'running' | 'status' | 'closedAt'> | undefined,
  at: number,
): boolean {
  if (latest?.running) return false;
  const judged = status?.observedGeneration === metadata.generation;
  if (!judged) return !latest || !failedLately(latest, at);
  // cancelled or terminated by a person, who may change the object, or a node, to have it begun anew
  if (latest && ['CANCELLED', 'TERMINATED'].includes(latest.status)) return false;
  if (latest && failedLately(latest, at)) return false;
  const well = status?.conditions?.find(({ type }) => type === 'Degraded')?.status === 'False';
  if (!well) return true;
  return latest?.closedAt !== undefined && at - latest.closedAt.getTime() > PREPARED_AGAIN_MS;
}

/** What of an object a run goes by. */
function fingerprint({ metadata, spec }: WatchedProvisioner): string {
  const { generation, annotations = {}, deletionTimestamp } = metadata;
  const asked = [annotations[MARKS.storageClass], annotations[MARKS.deadline]];
  return JSON.stringify([generation, spec, asked, deletionTimestamp]);
}

/** What of a node decides whether it takes part, how it is labelled, and whether it can be reached. */
export function nodeFingerprint(node: V1Node | undefined): string {
  if (!node) return '';
  const { metadata, spec, status } = node;
  const ready = status?.conditions?.find(({ type }) => type === 'Ready')?.status;
  const taints = spec?.taints?.map(({ key, value, effect }) => [key, value, effect]);
  const labels = Object.entries(metadata?.labels ?? {}).sort();
  return JSON.stringify([metadata?.uid, labels, taints, ready, status?.nodeInfo?.osImage]);
}
