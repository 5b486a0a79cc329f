/** From bare nodes to nodes on which volumes can be made: `vm-disks-docs.md` 1-34. */
import {
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  condition,
  ContinueAsNew,
  continueAsNew,
  isCancellation,
  workflowInfo,
} from '@temporalio/workflow';
import type { FailureType } from '../activities/types.js';
import type {
  HostPathProvisionerManifest,
  PreparationInput,
  PreparationResult,
  PreparationStart,
  ProvisionerFacts,
} from '../activities/types/preparation.js';
import { control, following } from './activity-options.js';
import { continues, requireArgument } from './arguments.js';
import { isSettled, type Failure } from './preparation-conditions.js';
import {
  createPreparationRun,
  madeBy,
  open,
  record,
  recordFailure,
  refOf,
  resume,
  say,
  step,
  type PreparationRun,
} from './preparation-run.js';
import { lookOnce, type Look } from './prepare-round.js';

/** Longest time between two looks at what is waited for, in ms; `wake` comes sooner. */
const RECHECK_MS = 600_000;
const FIRST_PAUSE_MS = 5_000;

/**
 * Prepares the nodes that a HostPathProvisioner chooses: its directories, their SELinux labels (by the node itself, on RHCOS by a
 * MachineConfig whose rollout is followed), the StorageClasses that it asks for, and conditions that say how far each node is. Ends
 * when every node is ready. Of a HostPathProvisioner that is gone it removes what was made.
 * @throws {@link FailureType} `InvalidHostPathProvisioner`, `NotAuthorized`, `ResourceExists`, `DeadlineExceeded`
 */
export async function prepareStorage(input: PreparationInput): Promise<PreparationResult> {
  const run = createPreparationRun();
  try {
    const opening = readInput(input);
    if (opening.ref) resume(run, believed(opening.ref));
    return await prepareAll(run, opening);
  } catch (error) {
    if (error instanceof ContinueAsNew) throw error;
    await CancellationScope.nonCancellable(() => end(run, error));
    throw error;
  }
}

interface Opening {
  readonly ref?: PreparationStart;
  readonly manifest?: HostPathProvisionerManifest | string;
}

/** Tells a reference from a manifest. @throws {@link FailureType} `InvalidHostPathProvisioner` for what is neither */
export function readInput(input: unknown): Opening {
  if (typeof input === 'string') return { manifest: input };
  const type = 'InvalidHostPathProvisioner';
  requireArgument(input, {
    type,
    give: 'a HostPathProvisioner manifest as one JSON object, or its JSON or YAML text',
    members: {},
  });
  if (!('uid' in (input as object))) return { manifest: input as HostPathProvisionerManifest };
  requireArgument(input, {
    type,
    give: 'a HostPathProvisioner manifest, which has no uid beside its metadata, or give name and uid of one as text',
    members: { name: 'name', uid: 'name' },
  });
  return { ref: input as PreparationStart };
}

/** What was made, and when, is known to a run that goes on for another one. */
function believed({ name, uid, ...handedOn }: PreparationStart): PreparationStart {
  return continues() ? { name, uid, ...handedOn } : { name, uid };
}

async function prepareAll(run: PreparationRun, { ref, manifest }: Opening): Promise<PreparationResult> {
  step(run, 'reading the HostPathProvisioner');
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, RECHECK_MS)) {
    run.woken = false;
    const known = refOf(run) ?? (ref && { name: ref.name, uid: ref.uid });
    const asked = known ? { ref: known } : { ...(manifest === undefined ? {} : { manifest }) };
    const { provisioner } = await control.openHostPathProvisioner(asked);
    if (!provisioner) return await remove(run);
    open(run, provisioner);
    if (provisioner.refused !== undefined) throw refusal(provisioner.refused);
    const look = await lookOnce(run, provisioner);
    // gone since it was opened
    if (!look) continue;
    if (await record(run, provisioner, look.round)) pause = FIRST_PAUSE_MS;
    if (isSettled(look.round) && look.round.nodes.length > 0) await say(run, complete(look));
    // what has changed meanwhile is looked at before anything is called done or failed
    if (!run.woken && isSettled(look.round)) return resultOf(run, look);
    if (!run.woken && look.round.failure) throw failureOf(look.round.failure);
    await wait(run, provisioner, look, pause);
  }
}

function complete({ round }: Look): Parameters<typeof say>[1] {
  return { type: 'Normal', reason: 'Complete', message: `${round.nodes.length} nodes are ready` };
}

function resultOf(run: PreparationRun, { round, configs, classes }: Look): PreparationResult {
  step(run, 'finished');
  const machineConfigs = configs.map(({ name }) => name);
  return { name: run.status.name, nodes: round.nodes, machineConfigs, storageClasses: classes };
}

/** Until something changes, at most `pause`; the deadline counts from the last progress. @throws `DeadlineExceeded` */
async function wait(
  run: PreparationRun,
  { name, uid, deadlineMs }: ProvisionerFacts,
  look: Look,
  pause: number,
): Promise<void> {
  const left = run.progressAt + deadlineMs - Date.now();
  if (left <= 0) {
    const type = 'DeadlineExceeded' satisfies FailureType;
    const what = run.status.waiting?.for ?? '';
    throw failureOf({
      type,
      message: `no progress for ${deadlineMs} ms (dvflow.io/deadline) while waiting: ${what}`,
    });
  }
  if (workflowInfo().continueAsNewSuggested)
    await continueAsNew<typeof prepareStorage>({ name, uid, progressAt: run.progressAt, made: madeBy(run) });
  await followed(run, look, Math.min(pause, left));
  // what woke the run may concern a node that was ready
  if (run.woken) run.ready.clear();
}

/** Waits for a wake, for a rollout that gets further, or for the time to pass. */
async function followed(run: PreparationRun, { round, configs }: Look, ms: number): Promise<void> {
  const scope = new CancellationScope();
  let changed = false;
  const done = (): void => void (changed = true);
  const rolls = round.rollouts.some(({ state }) => state !== 'done');
  const follow = rolls
    ? scope.run(() => following.awaitRollout({ configs, known: round.rollouts })).then(done, done)
    : Promise.resolve();
  try {
    await condition(() => run.woken || changed, ms);
  } finally {
    scope.cancel();
    await CancellationScope.nonCancellable(() => follow);
  }
}

/** The HostPathProvisioner is gone: MachineConfigs and StorageClasses go too; directories, volumes and labels stay. */
async function remove(run: PreparationRun): Promise<PreparationResult> {
  step(run, 'removing what was made');
  const { name, uid = '' } = run.status;
  const provisioner = { name, uid };
  const removed = await control.removePreparation({ provisioner });
  if (removed.machineConfigs.length > 0) {
    const message =
      `MachineConfig ${removed.machineConfigs.join(', ')} was removed: the nodes of pool ${removed.pools.join(', ')} ` +
      'drain and reboot once more; labels and volumes stay';
    const event = { type: 'Normal', reason: 'MachineConfigRemoved', message } as const;
    await control.recordPreparationEvent({ provisioner, event });
  }
  return { name, nodes: [], machineConfigs: [], storageClasses: [], removed };
}

/** A cancelled run takes back what it has made itself; any other leaves it to the next one, which goes on from there. */
async function end(run: PreparationRun, error: unknown): Promise<void> {
  const provisioner = refOf(run);
  if (!provisioner) return;
  if (isCancellation(error)) {
    // asked even where nothing is known of: an attempt whose answer was lost may have made something
    await control.removePreparation({ provisioner, only: madeBy(run) });
    return await recordFailure(run, { type: 'Cancelled', message: 'the preparation was cancelled' });
  }
  const cause = error instanceof ActivityFailure ? error.cause : error;
  const type = cause instanceof ApplicationFailure ? cause.type : undefined;
  const message = cause instanceof Error ? cause.message : String(cause);
  await recordFailure(run, { type: type ?? 'Error', message });
}

function refusal(message: string): ApplicationFailure {
  return failureOf({ type: 'InvalidHostPathProvisioner' satisfies FailureType, message });
}

function failureOf({ type, message }: Failure): ApplicationFailure {
  return ApplicationFailure.create({ type, message, nonRetryable: true });
}
