/** How live tests hold a run at one of its steps. */
import { killProcess, restartProcess } from '../../local/index.js';
import type { TestStack } from '../support/stack.js';
import { eventually, type DataVolume, type World } from './world.js';

/** A run that stays at a step. */
export interface Held {
  readonly made: DataVolume;
  /** Lets it go on; absent: nothing holds it but what it waits for. */
  readonly release?: () => Promise<void>;
}

/** Lets a run begin and come to where its volume is offered to claim `name`: without the controller manager nothing is Bound. */
export async function holdBinding(
  { stack, world }: { readonly stack: TestStack; readonly world: World },
  name: string,
  begin: () => Promise<DataVolume>,
): Promise<Held> {
  killProcess(stack.info, 'kube-controller-manager', 'SIGKILL');
  const release = (): Promise<void> => restartProcess(stack.info, 'kube-controller-manager');
  try {
    const made = await begin();
    await eventually(`a volume for claim ${name}`, 60_000, async () => {
      const { items } = await world.core.listPersistentVolume();
      return items.some(({ spec }) => spec?.claimRef?.name === name) ? true : undefined;
    });
    return { made, release };
  } catch (error) {
    await release();
    throw error;
  }
}
