import { parseIdentity } from '../../../workers/version.js';
import { duration } from '../../render/figures.js';
import { about, type Finding, type Subject } from '../findings.js';
import type { Remedies } from '../remedies.js';
import type { Poller, TemporalFacts } from '../temporal.js';

/** A live worker asks again within a minute; Temporal remembers it for five. */
const ASKS_WITHIN_MS = 75_000;

/** What the workers are compared with. */
export interface WorkerContext {
  /** Version of the program that looks. */
  readonly version: string;
  readonly now: number;
  readonly remedies: Remedies;
}

/** A node on which a worker is expected. */
export interface ExpectedNode {
  readonly name: string;
  readonly ready: boolean;
  /** Workers that have asked this node's queue. */
  readonly pollers: readonly Poller[];
}

/** The workers of the control role: they live if they have answered. */
export function checkControl(
  { examination, controlPollers }: Pick<TemporalFacts, 'examination' | 'controlPollers'>,
  context: WorkerContext,
): readonly Finding[] {
  const subject = about('Workers', 'control');
  const pollers = controlPollers.value ?? [];
  if (examination.refused !== undefined) {
    return [
      subject.problem({
        found: `no control worker answers (${lastSeen(pollers, context.now)})`,
        means: 'no DataVolume is started, shown or finished; running transfers go on and wait to be finished',
        todo: context.remedies.control,
      }),
    ];
  }
  const alive = pollers.filter(({ lastSeen: at }) => context.now - at.getTime() < ASKS_WITHIN_MS);
  const count = Math.max(1, alive.length);
  return [
    judgeVersions(subject, alive, `${count} ${count === 1 ? 'worker answers' : 'workers answer'}`, context),
  ];
}

/** The worker of each node. */
export function checkNodeWorkers(
  nodes: readonly ExpectedNode[],
  { examination }: Pick<TemporalFacts, 'examination'>,
  context: WorkerContext,
): readonly Finding[] {
  return nodes.map((node) => {
    const subject = about('Workers', `node ${node.name}`);
    if (!node.ready) {
      return subject.problem({
        found: 'Kubernetes says that the node is not Ready',
        means: 'volumes on it are out of reach; what is to be removed there waits for it',
        todo: `kubectl describe node ${node.name}`,
      });
    }
    const report = examination.value?.nodes.find(({ node: name }) => name === node.name)?.report;
    if (report) return judgeReport(subject, report, context);
    const [newest] = newestFirst(node.pollers);
    if (
      examination.refused !== undefined &&
      newest &&
      context.now - newest.lastSeen.getTime() < ASKS_WITHIN_MS
    )
      return judgeVersions(subject, [newest], `asked for work ${lastSeen([newest], context.now)}`, context);
    return subject.problem({
      found: `its worker does not answer (${lastSeen(node.pollers, context.now)})`,
      means: 'volumes on this node are neither made nor removed, and transfers to it wait',
      todo: context.remedies.node(node.name),
    });
  });
}

function judgeReport(
  subject: Subject,
  { version, nodeVersion, root }: { version: string; nodeVersion: string; root: boolean },
  context: WorkerContext,
): Finding {
  const found = `answers: dvflow ${version} on Node ${nodeVersion}`;
  if (version !== context.version) return otherVersion(subject, found, context);
  if (root) return subject.ok(found);
  return subject.warning({
    found: `${found}, without root`,
    means: "disks belong to the worker's own user: KubeVirt's qemu (uid 107) cannot open them",
    todo: 'run the node worker as root where virtual machines are to use its disks',
  });
}

function judgeVersions(
  subject: Subject,
  pollers: readonly Poller[],
  found: string,
  context: WorkerContext,
): Finding {
  const versions = pollers.flatMap(({ identity }) => parseIdentity(identity) ?? []);
  const named = [...new Set(versions.map((one) => `dvflow ${one.version} on Node ${one.nodeVersion}`))];
  const told = [found, ...named].join(', ');
  const other = versions.some(({ version }) => version !== context.version);
  return other ? otherVersion(subject, told, context) : subject.ok(told);
}

function otherVersion(subject: Subject, found: string, { version }: WorkerContext): Finding {
  return subject.warning({
    found: `${found}; this program is ${version}`,
    means: 'commands and workers of two versions may not understand each other',
    todo: 'use the program of the version that runs, or finish the upgrade (docs/operations.md, Upgrades)',
  });
}

function lastSeen(pollers: readonly Poller[], now: number): string {
  const [newest] = newestFirst(pollers);
  return newest
    ? `last seen ${duration(now - newest.lastSeen.getTime())} ago`
    : 'none was seen in five minutes';
}

function newestFirst(pollers: readonly Poller[]): readonly Poller[] {
  return pollers.toSorted((a, b) => b.lastSeen.getTime() - a.lastSeen.getTime());
}
