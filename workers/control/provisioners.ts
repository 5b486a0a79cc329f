/**
 * Brings each HostPathProvisioner and the run that prepares it together, level-based (`design.md` §2): one that is new, changed or
 * gone is looked at, and so are all of them when a node comes, goes, or becomes another one; but none that a person has cancelled and
 * that is as it was. The run itself decides what there is to do: after a removal it removes what was made. Every replica does all of it.
 */
import type { KubeConfig, V1Node } from '@kubernetes/client-node';
import type { Client } from '@temporalio/client';
import type { Logger } from '@temporalio/common';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import { HPP_GROUP, HPP_VERSION, MARKS } from '../../activities/kubernetes/names.js';
import type { WatchedProvisioner } from '../../activities/kubernetes/preparation/objects.js';
import { MAX_NODES } from '../../activities/kubernetes/preparation/status.js';
import { listOrphans } from '../../activities/kubernetes/preparation/orphans.js';
import { chooseNodes } from '../../activities/kubernetes/preparation/node-selection.js';
import {
  describePreparation,
  isJudged,
  isStopped,
  lookAgain,
  type LatestRun,
} from '../../activities/kubernetes/preparation/runs.js';
import { createKeyQueue } from './key-queue.js';
import { failedLately } from './runs.js';
import { startListWatch, type ListWatch, type WatchedObject } from './list-watch.js';

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
  readonly logger: Logger;
  readonly relistMs?: number | undefined;
}

/** Starts to watch HostPathProvisioners and nodes. */
export function watchProvisioners(
  options: ProvisionerWatchOptions,
): Pick<ListWatch<Provisioner>, 'synced' | 'stop'> {
  const { client, kubernetes, logger } = options;
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
      // in the first list every node is new, which is no news: what has changed meanwhile is judged object by object
      if (nodes.synced() && nodeFingerprint(before) !== nodeFingerprint(after))
        queue.addAfter(ALL, NODES_SETTLE_MS);
    },
    listed: () => list.all().forEach(({ metadata }) => queue.add(metadata.name)),
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

  /** What a person has stopped is not begun again by a node, which may change just because of the stop. */
  async function answerNodes(): Promise<void> {
    for (const provisioner of list.all()) {
      if (provisioner.metadata.deletionTimestamp) continue;
      const latest = await describePreparation(client, provisioner.metadata);
      if (!isStopped(provisioner, latest)) await lookAgain(client, provisioner.metadata);
    }
  }

  /** An object that is as it was: only where its run was missed, or was too long ago. */
  async function check(provisioner: Provisioner | undefined): Promise<void> {
    if (!provisioner || provisioner.metadata.deletionTimestamp) return;
    const latest = await describePreparation(client, provisioner.metadata);
    const misplaced = nodes.synced() && isMisplaced(provisioner, nodes.all());
    if (isDue(provisioner, latest, Date.now(), misplaced)) await lookAgain(client, provisioner.metadata);
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

/**
 * Whether an object that nothing was heard about needs a run; `latest` is the last one that served it, `misplaced` says that others
 * than its nodes are chosen by now.
 */
export function isDue(
  provisioner: WatchedProvisioner,
  latest: LatestRun | undefined,
  at: number,
  misplaced = false,
): boolean {
  if (latest?.running) return false;
  if (!isJudged(provisioner)) return !latest || !failedLately(latest, at);
  if (isStopped(provisioner, latest)) return false;
  if (latest && failedLately(latest, at)) return false;
  if (misplaced) return true;
  const degraded = provisioner.status?.conditions?.find(({ type }) => type === 'Degraded');
  // without a node that is chosen there is nothing to do before one is
  if (degraded?.status !== 'False' && degraded?.reason !== 'NoNodes') return true;
  return latest?.closedAt !== undefined && at - latest.closedAt.getTime() > PREPARED_AGAIN_MS;
}

/** Whether a node is chosen that the last look did not see, or the other way round. */
export function isMisplaced({ spec, status }: WatchedProvisioner, nodes: readonly V1Node[]): boolean {
  const known = status?.nodes?.map(({ name }) => name) ?? [];
  // a status lists no more, and the others are told by events
  if (known.length >= MAX_NODES) return false;
  const chosen = chooseNodes(nodes, spec?.workload, false).selected.map(({ node }) => node);
  return chosen.length !== known.length || chosen.some((node) => !known.includes(node));
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
