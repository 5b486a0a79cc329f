import type {
  ClaimRef,
  ImageFacts,
  ImportResult,
  LifecycleInput,
  Missing,
  TargetPlan,
} from '../activities/types.js';
import { control, inspecting } from './activity-options.js';
import { adopt, awaitConsumer, begin, ensureClaim, planTarget } from './claim.js';
import { confirmHeld } from './claim-watch.js';
import { runLifecycle } from './lifecycle.js';
import type { Lifecycle } from './volume-lifecycle.js';
import { reserveOnSomeNode } from './placement.js';
import { publish, verify } from './publication.js';
import { resultOf } from './result.js';
import { refOf } from './run-state.js';
import { obtainScratch, planScratch } from './scratch.js';
import { prepareStaticVolume, reserveStaticVolume } from './static-volume.js';
import { transfer } from './transfer.js';

/**
 * Fills a volume from an image and offers it to the claim only when it is complete, verified and synced. Phases: CDI's import
 * phases. Nothing is allocated before the source is known to be readable and to fit.
 * @throws every {@link FailureType} of an import, as the `type` of an `ApplicationFailure`
 */
export async function importDataVolume(input: LifecycleInput): Promise<ImportResult | undefined> {
  return await runLifecycle(input, async (volume) => {
    await begin(volume);
    const target = await planTarget(volume);
    if (target.claim === 'adopt') return await adopt(volume, target);
    const image = volume.handedOn.image ?? (await inspect(volume, target));
    volume.note({ image });
    const plan = await planScratch(volume, { target, image });
    const reserved = await reserveStaticVolume(volume, target);
    const claim = await ensureClaim(volume, target, { labels: image.labels, reserved });
    // whoever waits with its claim is not concerned by what becomes of the source meanwhile
    volume.handedOn.image = image;
    await awaitConsumer(volume, claim, target);
    await volume.enter('ImportScheduled');
    const directory = reserved
      ? await prepareStaticVolume(volume, { reserved, claim, target })
      : await reserveOnSomeNode(volume, { claim, target, scratch: plan });
    volume.note({ node: directory.node });
    const scratch = plan && (await obtainScratch(volume, { claim, directory, plan }));
    await copyCredentials(volume, claim);
    await volume.enter('ImportInProgress');
    const transferred = await transfer(volume, { claim, target, image, directory }, scratch);
    await verify(volume, { directory, transferred });
    const tidy = (): Promise<void> => control.deleteCredentials({ dataVolume: refOf(volume.facts) });
    const published = await publish(volume, { claim, target, directory, transferred, tidy });
    return resultOf({ claim, node: directory.node, ...published }, transferred);
  });
}

async function inspect(volume: Lifecycle, target: TargetPlan): Promise<ImageFacts> {
  volume.step('inspecting the source');
  return await untilNamed(volume, () =>
    inspecting.inspectSource({
      dataVolume: refOf(volume.facts),
      target,
      contentType: volume.facts.contentType,
    }),
  );
}

async function copyCredentials(volume: Lifecycle, claim: ClaimRef): Promise<void> {
  const dataVolume = refOf(volume.facts);
  volume.onFailure(`delete Secret transfer-${dataVolume.uid}`, () =>
    control.deleteCredentials({ dataVolume }),
  );
  await untilNamed(volume, () => control.copyCredentials({ dataVolume }), claim);
}

/** Waits until the Secrets and ConfigMaps that the DataVolume names exist; `claim` is held meanwhile. @throws `ClaimLost` */
async function untilNamed<T extends object>(
  volume: Lifecycle,
  look: () => Promise<T | Missing>,
  claim?: ClaimRef,
): Promise<Exclude<T, Missing>> {
  let missing: readonly string[] = [];
  const wait = { reason: 'SourceNotReady', counts: true, message: () => `waiting for ${missing.join(', ')}` };
  return await volume.until(wait, async () => {
    const found = await look();
    if (!isMissing(found)) return found as Exclude<T, Missing>;
    missing = found.missing;
    await confirmHeld(claim);
    return undefined;
  });
}

function isMissing(found: object): found is Missing {
  return 'missing' in found && Array.isArray(found.missing) && found.missing.length > 0;
}
