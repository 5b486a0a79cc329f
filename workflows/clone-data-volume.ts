import { ApplicationFailure } from '@temporalio/workflow';
import type { CloneOrigin, CloneResult, CloneStrategy, SourceContent } from '../activities/types/clone.js';
import type {
  ClaimRef,
  DataVolumeEvent,
  FailureType,
  FillTarget,
  LifecycleInput,
  TargetPlan,
  TransferResult,
} from '../activities/types.js';
import { control, onNode } from './activity-options.js';
import { adopt, awaitConsumer, begin, ensureClaim, untilThere } from './claim.js';
import { awaitOrigin, awaitSameOrigin, isUntouched, measure } from './clone-source.js';
import { factsOf, moveClone, type Cloning } from './clone-transfer.js';
import { runLifecycle } from './lifecycle.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { reserveOnSomeNode } from './placement.js';
import { publish, verify } from './publication.js';
import { PLANNING, refOf } from './run-state.js';
import { prepareStaticVolume, reserveStaticVolume } from './static-volume.js';

/** Times that a source may be found in use after it was read; as for a source that changes. */
const MAX_GENERATIONS = 3;

/**
 * Clones a claim: by sharing blocks or copying extents where source and target are on one node, else over the data port of the
 * source's node. Phases: CDI's clone phases. Nothing is allocated before the source is there, complete, at rest, and known to fit; it is
 * never written to.
 * @throws every {@link FailureType} of a clone, as the `type` of an `ApplicationFailure`
 */
export async function cloneDataVolume(input: LifecycleInput): Promise<CloneResult | undefined> {
  return await runLifecycle(input, async (volume) => {
    await begin(volume);
    const dataVolume = refOf(volume.facts);
    const verdict = await untilThere(volume, () => control.judgeTarget({ dataVolume }));
    if (verdict.claim === 'adopt') return await adopt(volume, verdict);
    const { origin, content } = await findSource(volume);
    const target = await planClone(volume, { origin, content });
    const reserved = await reserveStaticVolume(volume, target);
    const claim = await ensureClaim(volume, target, { ...labelsOf(origin), reserved });
    await awaitConsumer(volume, claim, target);
    await volume.enter('CloneScheduled');
    const directory = reserved
      ? await prepareStaticVolume(volume, { reserved, claim, target })
      : await reserveOnSomeNode(volume, { claim, target, prefer: origin.volume.node });
    const strategy = await chooseStrategy(volume, { origin, target, directory });
    volume.note({ node: directory.node, image: factsOf({ origin, content, strategy }) });
    const fixed = { claim, target, directory, content, strategy };
    const { transferred, ...read } = await fill(volume, { ...fixed, origin });
    await verify(volume, { directory, transferred });
    const tidy = (): Promise<void> => control.annotateClone({ dataVolume, claim, complete: true });
    const published = await publish(volume, { claim, target, directory, transferred, tidy });
    return resultOf({ claim, node: directory.node, strategy, ...published }, read.origin, transferred);
  });
}

/** What is cloned is decided once, for all runs that go on for each other. */
async function findSource(
  volume: Lifecycle,
): Promise<{ readonly origin: CloneOrigin; readonly content: SourceContent }> {
  const { handedOn } = volume;
  const known = (handedOn.clone ??= { origin: await awaitOrigin(volume), generation: 1 });
  const content = known.content ?? (await measure(volume, known.origin));
  handedOn.clone = { ...known, content };
  return { origin: known.origin, content };
}

async function planClone(
  volume: Lifecycle,
  found: { readonly origin: CloneOrigin; readonly content: SourceContent },
): Promise<TargetPlan> {
  volume.step(PLANNING);
  // the claim was judged already
  return volume.handedOn.target ?? (await control.planClone({ dataVolume: refOf(volume.facts), ...found }));
}

function labelsOf({ labels }: CloneOrigin): Pick<CloneOrigin, 'labels'> {
  return labels ? { labels } : {};
}

/** Where the volumes are decides, and what their file system can do; the reason is said before anything is moved. */
async function chooseStrategy(
  volume: Lifecycle,
  { origin, target, directory }: { origin: CloneOrigin; target: TargetPlan; directory: FillTarget },
): Promise<CloneStrategy> {
  const { volume: source, contentType } = origin;
  const { node } = directory;
  if (source.node !== node) {
    const why = `source is on node ${source.node}, target on node ${node}`;
    return {
      method: 'network',
      reason: `over the data port of node ${source.node}: ${why}`,
      fallback: `DifferentNodes: ${why}`,
    };
  }
  volume.step(`choosing how to clone on node ${node}`);
  const { preallocation } = target;
  const input = { volume: source, target: directory, contentType, preallocation };
  return await volume.within(
    `node ${node} to look at both volumes`,
    () => onNode(node).chooseCloneMethod(input),
    async () => 0,
  );
}

/** Copies until the source was at rest from beginning to end. */
async function fill(
  volume: Lifecycle,
  cloning: Omit<Cloning, 'generation'>,
): Promise<{ readonly transferred: TransferResult; readonly origin: CloneOrigin }> {
  const { claim, strategy, content } = cloning;
  const event = strategyEvent(strategy);
  // whoever looks for clones that wait learns from it what this one waits for
  const said = { claim, strategy, origin: cloning.origin, event };
  await control.annotateClone({ dataVolume: refOf(volume.facts), ...said });
  for (let generation = volume.handedOn.clone?.generation ?? 1; ; generation += 1) {
    volume.handedOn.clone = { origin: cloning.origin, content, generation };
    // it may have been days until there was a node and room
    const origin = await awaitSameOrigin(volume, cloning.origin, claim);
    await volume.enter('CloneInProgress', { doing: strategy.reason });
    const transferred = await moveClone(volume, { ...cloning, origin, generation });
    if (await isUntouched(volume, origin)) return { transferred, origin };
    if (generation === MAX_GENERATIONS) throw neverAtRest(origin);
  }
}

/** CDI's warning where a clone is not made the cheap way. */
function strategyEvent({ reason, fallback }: CloneStrategy): DataVolumeEvent {
  const [why = ''] = fallback?.split(':', 1) ?? [];
  return fallback === undefined
    ? { type: 'Normal', reason: 'CloneStrategy', message: reason }
    : { type: 'Warning', reason: why, message: reason };
}

function neverAtRest({ claim: { namespace, name } }: CloneOrigin): ApplicationFailure {
  return ApplicationFailure.create({
    type: 'SourceChanged' satisfies FailureType,
    message: `source claim ${namespace}/${name} was in use each time that it had been read: given up after ${MAX_GENERATIONS} times`,
    nonRetryable: true,
  });
}

function resultOf(
  made: { claim: ClaimRef; volume: string; node: string; strategy: CloneStrategy },
  origin: CloneOrigin,
  { virtualSize, bytesTransferred, bytesWritten }: TransferResult,
): CloneResult {
  const { claim, volume, node, strategy } = made;
  return {
    claim: { namespace: claim.namespace, name: claim.name },
    volume,
    node,
    source: { namespace: origin.claim.namespace, name: origin.claim.name },
    method: strategy.method,
    virtualSize,
    bytesTransferred,
    bytesWritten,
  };
}
