/** One look of `prepareStorage` at everything, in the documented order: nodes, directories, labels, StorageClasses. */
import { ActivityFailure, ApplicationFailure } from '@temporalio/workflow';
import type {
  MachineConfigsResult,
  NodeSelection,
  PlannedMachineConfig,
  PoolRollout,
  ProvisionerFacts,
} from '../activities/types/preparation.js';
import { control, following } from './activity-options.js';
import { SHARED_REASON, sharedText, type Failure, type Round } from './preparation-conditions.js';
import { say, step, unlessReady, type PreparationRun } from './preparation-run.js';
import { obstacleOf, prepareNode, verifyNode, type NodeOutcome } from './prepare-nodes.js';

/** What one look has found and made. */
export interface Look {
  readonly round: Round;
  readonly configs: readonly PlannedMachineConfig[];
  readonly classes: readonly string[];
}

/** A node that is ready is not asked again before something wakes the run. `undefined` where the object has just gone. */
export async function lookOnce(
  run: PreparationRun,
  provisioner: ProvisionerFacts,
): Promise<Look | undefined> {
  const { name, uid } = provisioner;
  step(run, 'choosing nodes');
  const selection = await control.selectNodes({ provisioner: { name, uid } });
  if (selection.gone) return undefined;
  step(run, `preparing directories and labels on ${selection.selected.length} nodes`);
  const [own, rolled] = await both(
    prepareNodes(run, provisioner, selection),
    rollOut(run, provisioner, selection),
  );
  const outcomes = [...own, ...rolled.outcomes].sort((a, b) => (a.status.name < b.status.name ? -1 : 1));
  await tell(run, outcomes);
  const made = await ensureClasses(run, provisioner);
  const failure = rolled.failure ?? made.failure;
  const round: Round = {
    nodes: outcomes.map(({ status }) => status),
    total: selection.total,
    rollouts: rolled.rollouts,
    shared: outcomes.flatMap(({ shared }) => shared),
    notes: selection.notes,
    ...(failure ? { failure } : {}),
  };
  return { round, configs: rolled.configs, classes: made.classes };
}

/** As `Promise.all`, but a failure of one is told when the other has ended too: what that has made must be known by then. */
async function both<A, B>(first: Promise<A>, second: Promise<B>): Promise<[A, B]> {
  await Promise.allSettled([first, second]);
  return await Promise.all([first, second]);
}

async function prepareNodes(
  run: PreparationRun,
  { directories }: ProvisionerFacts,
  { selected }: NodeSelection,
): Promise<readonly NodeOutcome[]> {
  const own = selected.filter(({ labelledBy }) => labelledBy === 'node');
  return await Promise.all(
    own.map(({ node }) => unlessReady(run, node, () => prepareNode(node, directories))),
  );
}

interface RolledOut extends Pick<Look, 'configs'> {
  readonly outcomes: readonly NodeOutcome[];
  readonly rollouts: readonly PoolRollout[];
  readonly failure?: Failure;
}

/** The nodes that RHCOS runs on: MachineConfigs, how far they are, and the label itself where they have arrived. */
async function rollOut(
  run: PreparationRun,
  provisioner: ProvisionerFacts,
  selection: NodeSelection,
): Promise<RolledOut> {
  const { selected, machineConfigs } = selection;
  if (!machineConfigs) return { configs: [], outcomes: [], rollouts: [] };
  const nodes = selected.filter(({ labelledBy }) => labelledBy === 'machineConfig').map(({ node }) => node);
  const obstacles = await findObstacles(run, provisioner, nodes);
  // none of them could use what their reboot would give them
  if (nodes.length > 0 && obstacles.size === nodes.length)
    return { configs: [], outcomes: [...obstacles.values()], rollouts: [] };
  const ensured = await ensureConfigs(run, provisioner, { nodes, repelled: selection.repelled ?? [] });
  const { configs, unreachable } = ensured;
  const rollouts = configs.length === 0 ? [] : await following.awaitRollout({ configs });
  const verified = await Promise.all(
    nodes
      .filter((node) => !obstacles.has(node))
      .map((node) => {
        const rollout = rollouts.find((one) => node in one.nodes || one.done.includes(node));
        const facts = { rollout, unreachable: unreachable[node] };
        return unlessReady(run, node, () => verifyNode(node, provisioner.directories, facts));
      }),
  );
  const outcomes = [...obstacles.values(), ...verified];
  return { configs, outcomes, rollouts, ...(ensured.failure ? { failure: ensured.failure } : {}) };
}

/** Nodes that are in the way themselves; one that was not is asked no more by this run, since it will be busy rebooting. */
async function findObstacles(
  run: PreparationRun,
  { directories }: ProvisionerFacts,
  nodes: readonly string[],
): Promise<ReadonlyMap<string, NodeOutcome>> {
  const obstacles = new Map<string, NodeOutcome>();
  const asked = nodes.filter((node) => !run.asked.has(node));
  await Promise.all(
    asked.map(async (node) => {
      const obstacle = await obstacleOf(node, directories);
      if (obstacle) obstacles.set(node, obstacle);
      else run.asked.add(node);
    }),
  );
  return obstacles;
}

async function ensureConfigs(
  run: PreparationRun,
  provisioner: ProvisionerFacts,
  placed: { readonly nodes: readonly string[]; readonly repelled: readonly string[] },
): Promise<MachineConfigsResult & { readonly failure?: Failure }> {
  try {
    const result = await control.ensureMachineConfigs({ provisioner, ...placed });
    for (const { name, pools } of result.configs.filter(({ created }) => created)) {
      run.made.machineConfigs.add(name);
      const message = `MachineConfig ${name} was made: the nodes of pool ${pools.join(', ')} drain and reboot one after the other`;
      await say(run, { type: 'Normal', reason: 'MachineConfigCreated', message });
    }
    return result;
  } catch (error) {
    return { configs: [], unreachable: {}, failure: toldFailure(error) };
  }
}

async function ensureClasses(
  run: PreparationRun,
  provisioner: ProvisionerFacts,
): Promise<{ classes: readonly string[]; failure?: Failure }> {
  step(run, 'making StorageClasses');
  try {
    const { classes, created } = await control.ensureStorageClasses({ provisioner });
    for (const name of created) run.made.storageClasses.add(name);
    const message = `StorageClass ${created.join(', ')} was made`;
    if (created.length > 0) await say(run, { type: 'Normal', reason: 'StorageClassCreated', message });
    return { classes };
  } catch (error) {
    return { classes: [], failure: toldFailure(error) };
  }
}

/** A failure that ends the run, after the nodes have been told about. */
function toldFailure(error: unknown): Failure {
  const cause = error instanceof ActivityFailure ? error.cause : undefined;
  if (!(cause instanceof ApplicationFailure)) throw error;
  return { type: cause.type ?? 'Error', message: cause.message };
}

/** Events: what was done, and the warnings that an operator must not miss. */
async function tell(run: PreparationRun, outcomes: readonly NodeOutcome[]): Promise<void> {
  const done = outcomes.flatMap((outcome) => outcome.done);
  if (done.length > 0)
    await say(run, { type: 'Normal', reason: 'DirectoryPrepared', message: done.join('; ') });
  const shared = outcomes.flatMap((outcome) => outcome.shared);
  if (shared.length > 0)
    await say(run, { type: 'Warning', reason: SHARED_REASON, message: sharedText(shared) });
  const failed = outcomes.filter(({ status }) => status.phase === 'Degraded');
  const message = failed.map(({ status }) => `node ${status.name}: ${status.message}`).join('; ');
  if (failed.length > 0) await say(run, { type: 'Warning', reason: 'NodesDegraded', message });
}
