/** What a run of `prepareStorage` knows of itself: which object, which nodes are ready, what it has said and made. */
import { setCurrentDetails, setHandler } from '@temporalio/workflow';
import type { DataVolumeEvent } from '../activities/types.js';
import type {
  MadePreparation,
  PreparationStart,
  PreparationStatus,
  ProvisionerFacts,
  ProvisionerRef,
} from '../activities/types/preparation.js';
import { control } from './activity-options.js';
import { preparationQuery, wakeSignal } from './messages.js';
import { conditionsOf, isSettled, reachedIn, type Failure, type Round } from './preparation-conditions.js';
import type { NodeOutcome } from './prepare-nodes.js';

/** A run. */
export interface PreparationRun {
  /** The object as it was read last. */
  opened?: ProvisionerFacts;
  status: PreparationStatus;
  /** When something last got further, ms since the epoch. */
  progressAt: number;
  /** The most nodes that were ready, or done with a rollout, in any look: a node that comes and goes is no progress. */
  most: number;
  /** Something may have changed since the look began. */
  woken: boolean;
  /** Nodes that were ready, for as long as nothing woke the run. */
  readonly ready: Map<string, NodeOutcome>;
  /** Nodes of RHCOS that were asked whether a MachineConfig can help them, and can be, of this generation. */
  readonly asked: Set<string>;
  /** Names of what this run has made and a cancel takes back. */
  readonly made: { readonly machineConfigs: Set<string>; readonly storageClasses: Set<string> };
  /** Events said, so that a look which finds the same says nothing. */
  readonly said: Set<string>;
  /** The last round, and the status that was written for it. */
  round: Round;
  recorded: string;
}

/** Begins a run, and answers its query and signal. */
export function createPreparationRun(): PreparationRun {
  const run: PreparationRun = {
    status: { name: '', step: '', conditions: [], nodes: [] },
    progressAt: Date.now(),
    most: 0,
    woken: false,
    ready: new Map(),
    asked: new Set(),
    made: { machineConfigs: new Set(), storageClasses: new Set() },
    said: new Set(),
    round: { nodes: [], total: 0, rollouts: [], shared: [], notes: [] },
    recorded: '',
  };
  setHandler(preparationQuery, () => run.status);
  setHandler(wakeSignal, () => {
    run.woken = true;
  });
  return run;
}

/** Begins with what the watch says, or the run that this one goes on from. */
export function resume(run: PreparationRun, { name, uid, progressAt, made }: PreparationStart): void {
  identify(run, { name, uid });
  run.progressAt = progressAt ?? run.progressAt;
  for (const one of made?.machineConfigs ?? []) run.made.machineConfigs.add(one);
  for (const one of made?.storageClasses ?? []) run.made.storageClasses.add(one);
}

/** Names of what the run has made, for another process. */
export function madeBy({ made }: PreparationRun): MadePreparation {
  return { machineConfigs: [...made.machineConfigs], storageClasses: [...made.storageClasses] };
}

/** Says which object the run is for. */
function identify(run: PreparationRun, { name, uid }: ProvisionerRef): void {
  run.status = { ...run.status, name, uid };
}

/** Identity of the object, where there is one. */
export function refOf(run: PreparationRun): ProvisionerRef | undefined {
  return run.opened && { name: run.opened.name, uid: run.opened.uid };
}

/** Takes note of the object as it was just read; of another generation nothing is known. */
export function open(run: PreparationRun, provisioner: ProvisionerFacts): void {
  if (run.opened && run.opened.generation !== provisioner.generation) {
    run.ready.clear();
    run.asked.clear();
    run.progressAt = Date.now();
    run.most = 0;
  }
  run.opened = provisioner;
  identify(run, provisioner);
}

/** Says what is being done, for the query and the Temporal UI. */
export function step(run: PreparationRun, text: string): void {
  run.status = { ...run.status, step: text };
  setCurrentDetails(text);
}

/** The node's outcome of before if it was ready, else the one of `work`. */
export async function unlessReady(
  run: PreparationRun,
  node: string,
  work: () => Promise<NodeOutcome>,
): Promise<NodeOutcome> {
  const outcome = run.ready.get(node) ?? (await work());
  if (outcome.status.phase === 'Ready') run.ready.set(node, outcome);
  return outcome;
}

/** Writes conditions and nodes where they say something new; whether anything has changed since the last time. */
export async function record(
  run: PreparationRun,
  provisioner: ProvisionerFacts,
  round: Round,
): Promise<boolean> {
  run.round = round;
  const { nodes } = round;
  const conditions = conditionsOf(round);
  const text = JSON.stringify([provisioner.generation, conditions, nodes]);
  if (text === run.recorded) return false;
  const changed = run.recorded !== '';
  run.recorded = text;
  noteProgress(run, round);
  const { waiting: _, ...status } = run.status;
  const open = !isSettled(round) && !round.failure;
  run.status = { ...status, conditions, nodes, ...(open ? { waiting: waitingFor(round) } : {}) };
  const { name, uid, generation, directories } = provisioner;
  const pools = directories.flatMap(({ pool }) => (pool === 'legacy' ? [] : [pool]));
  await control.recordPreparation({ provisioner: { name, uid }, generation, conditions, nodes, pools });
  return changed;
}

/** Another text is no progress yet: only a node more than ever before sets the deadline back. */
export function noteProgress(run: Pick<PreparationRun, 'most' | 'progressAt'>, round: Round): void {
  const reached = reachedIn(round);
  if (reached <= run.most) return;
  run.most = reached;
  run.progressAt = Date.now();
}

/** An event; the same text is said once a run. */
export async function say(run: PreparationRun, event: DataVolumeEvent): Promise<void> {
  const provisioner = refOf(run);
  const text = JSON.stringify(event);
  if (!provisioner || run.said.has(text)) return;
  run.said.add(text);
  await control.recordPreparationEvent({ provisioner, event });
}

/** Writes why the run ends, beside what is known of the nodes. */
export async function recordFailure(run: PreparationRun, failure: Failure): Promise<void> {
  if (!run.opened) return;
  await record(run, run.opened, { ...run.round, failure });
  await say(run, { type: 'Warning', reason: failure.type, message: failure.message });
}

function waitingFor({ nodes, rollouts }: Round): NonNullable<PreparationStatus['waiting']> {
  const open = nodes.filter(({ phase }) => phase !== 'Ready');
  const texts = open.map(({ name, message }) => `node ${name}: ${message}`);
  const rolling = rollouts.filter(({ state }) => state !== 'done').map(({ message }) => message);
  return { for: [...rolling, ...texts].slice(0, 20).join('; '), since: new Date().toISOString() };
}
