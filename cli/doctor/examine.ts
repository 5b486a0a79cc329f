import type { V1Node } from '@kubernetes/client-node';
import type { StackInfo } from '../../local/types.js';
import { ownVersion } from '../../workers/version.js';
import { nodeQueue } from '../../workflows/task-queues.js';
import { connectTemporal, loadKubernetes, type TemporalAccess } from '../connections.js';
import { checkClasses } from './checks/classes.js';
import { checkDataSources } from './checks/data-sources.js';
import { checkDataVolumes, checkReleased } from './checks/data-volumes.js';
import { checkKubernetes } from './checks/kubernetes.js';
import { checkPools, checkProvisioners } from './checks/pools.js';
import { checkRights } from './checks/rights.js';
import { checkTemporal } from './checks/temporal.js';
import { checkControl, checkNodeWorkers, type ExpectedNode } from './checks/workers.js';
import { readCluster, readServer, type ClusterFacts } from './cluster.js';
import { about, type Finding } from './findings.js';
import { read, type Reading } from './reading.js';
import { remediesFor } from './remedies.js';
import { readRights, type AccountRights } from './rights.js';
import { openDataVolumesOf, readRuns } from './runs.js';
import { pollersOf, readTemporal, type TemporalFacts } from './temporal.js';

/** Looks at everything once and judges it; changes nothing but for a short run `doctor/…` in Temporal. */
export async function examineAll(stack: StackInfo | undefined): Promise<readonly Finding[]> {
  const [temporal, kubeConfig] = await Promise.all([
    read(() => connectTemporal(stack)),
    read(() => loadKubernetes(stack)),
  ]);
  try {
    return await examine(temporal, kubeConfig, stack);
  } finally {
    await temporal.value?.close();
  }
}

async function examine(
  temporal: Reading<TemporalAccess>,
  kubeConfig: Reading<Awaited<ReturnType<typeof loadKubernetes>>>,
  stack: StackInfo | undefined,
): Promise<readonly Finding[]> {
  const client = temporal.value?.client;
  const [facts, kubernetes] = await Promise.all([
    client && readTemporal(client, temporal.value.address),
    readKubernetes(kubeConfig),
  ]);
  const now = Date.now();
  const { answers, rights, refused = '' } = kubernetes;
  return [
    ...(facts ? checkTemporal(facts, now) : [unreachable('Temporal', temporal.refused ?? '')]),
    ...(answers
      ? [...checkKubernetes(answers), ...checkRights(rights)]
      : [unreachable('Kubernetes', refused)]),
    ...(facts && client ? await checkWorkers({ client, facts, cluster: answers, stack, now }) : []),
    ...(facts ? checkPools(facts.examination) : []),
    ...(answers ? [...checkProvisioners(answers.provisioners), ...checkClasses(answers)] : []),
    ...(answers && client ? await checkRuns(client, answers, now) : []),
  ];
}

type Kubernetes =
  | {
      readonly answers: ClusterFacts;
      readonly rights: Reading<readonly AccountRights[]>;
      readonly refused?: never;
    }
  | { readonly answers?: never; readonly rights?: never; readonly refused: string };

/** One that does not answer at all would be waited for at every question. */
async function readKubernetes(
  kubeConfig: Reading<Awaited<ReturnType<typeof loadKubernetes>>>,
): Promise<Kubernetes> {
  if (kubeConfig.refused !== undefined) return { refused: kubeConfig.refused };
  const server = await readServer(kubeConfig.value);
  if (server.refused !== undefined && server.kind === 'other') return { refused: server.refused };
  const [answers, rights] = await Promise.all([
    readCluster(kubeConfig.value, server),
    readRights(kubeConfig.value),
  ]);
  return { answers, rights };
}

interface Known {
  readonly client: TemporalAccess['client'];
  readonly facts: TemporalFacts;
  readonly cluster: ClusterFacts | undefined;
  readonly stack: StackInfo | undefined;
  readonly now: number;
}

async function checkWorkers({ client, facts, cluster, stack, now }: Known): Promise<readonly Finding[]> {
  const deployed = cluster?.deployed ?? { control: false, node: false };
  const remedies = remediesFor({ deployed }, stack !== undefined);
  const context = { version: ownVersion(), now, remedies };
  const names = expectedNodes(cluster, facts);
  const nodes = await Promise.all(
    names.map(async ({ name, ready }): Promise<ExpectedNode> => {
      const pollers = await read(() => pollersOf(client, nodeQueue(name)));
      return { name, ready, pollers: pollers.value ?? [] };
    }),
  );
  return [...checkControl(facts, context), ...checkNodeWorkers(nodes, facts, context)];
}

/** Nodes that can run a worker; those that the HostPathProvisioners choose, where they have said which. */
function expectedNodes(
  cluster: ClusterFacts | undefined,
  { examination }: TemporalFacts,
): readonly { readonly name: string; readonly ready: boolean }[] {
  if (cluster?.nodes.value === undefined)
    return (examination.value?.nodes ?? []).map(({ node }) => ({ name: node, ready: true }));
  const chosen = new Set(
    (cluster.provisioners.value ?? []).flatMap(({ status }) => (status?.nodes ?? []).map(({ name }) => name)),
  );
  return cluster.nodes.value
    .filter(({ metadata }) => (metadata?.labels?.['kubernetes.io/os'] ?? 'linux') === 'linux')
    .filter(({ metadata }) => chosen.size === 0 || chosen.has(metadata?.name ?? ''))
    .map((node) => ({ name: node.metadata?.name ?? '', ready: isReady(node) }));
}

function isReady({ status }: V1Node): boolean {
  return status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') ?? false;
}

async function checkRuns(
  client: TemporalAccess['client'],
  cluster: ClusterFacts,
  now: number,
): Promise<readonly Finding[]> {
  const runs = await read(() => readRuns(client, openDataVolumesOf(cluster.dataVolumes.value ?? [])));
  return [
    ...checkDataVolumes(cluster.dataVolumes, runs, now),
    ...checkDataSources(cluster.dataSources, now),
    ...checkReleased(cluster.volumes, now),
  ];
}

function unreachable(area: 'Temporal' | 'Kubernetes', refused: string): Finding {
  const variable = area === 'Temporal' ? 'TEMPORAL_ADDRESS' : 'KUBECONFIG';
  return about(area, area === 'Temporal' ? 'server' : 'API server').problem({
    found: `it does not answer: ${refused}`,
    means:
      area === 'Temporal'
        ? 'nothing is started, and running imports stand still'
        : 'nothing can be judged there',
    todo: `look whether it runs and whether ${variable} names it; the local stack: dvflow local up`,
  });
}
