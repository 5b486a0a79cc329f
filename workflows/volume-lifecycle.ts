/** What a lifecycle offers to the workflow that runs in it. */
import type { DataVolumeEvent, DataVolumeFacts, LifecycleStatus, Phase } from '../activities/types.js';
import type { StatusFacts } from './conditions.js';
import type { HandedOn } from './run-state.js';
import type { Wait } from './waiting.js';

/** What a phase may carry besides itself. */
export interface Entered {
  /** Attempts of the transfer after the first. */
  readonly restartCount?: number;
  /** What is being done, in words, shown by condition `Running` while bytes move. */
  readonly doing?: string;
  /** Whether the claim has its volume yet, at the end. @default true */
  readonly bound?: boolean;
  /** What is being waited for in this phase from its beginning. */
  readonly waiting?: NonNullable<StatusFacts['waiting']>;
}

/** A lifecycle as its workflow sees it. */
export interface Lifecycle {
  readonly facts: DataVolumeFacts;
  /** Enters a phase of CDI: status, conditions, event, search attribute. */
  enter(phase: Phase, more?: Entered): Promise<void>;
  /** Says what is being done, for the query and the Temporal UI. */
  step(text: string): void;
  /** What was said last by `step`. */
  doing(): string;
  /** What the run had found that this one goes on for; a run that goes on for this one gets what stands here then. */
  readonly handedOn: HandedOn;
  /** Has a wait look again, as the signal `wake` does. */
  wake(): void;
  /** Adds what the query answers. */
  note(facts: Partial<Pick<LifecycleStatus, 'claim' | 'node' | 'image' | 'scratch'>>): void;
  /**
   * Something to undo when the run fails or is cancelled; last in, first out. `isSwept`: what cannot be undone is found by the sweeper.
   * @default isSwept true
   */
  onFailure(what: string, undo: () => Promise<unknown>, more?: { readonly isSwept?: boolean }): void;
  /** From here on nothing is undone: the disk is the user's. */
  commit(): void;
  /** An event that does not change the phase. */
  event(event: DataVolumeEvent): Promise<void>;
  /** Looks until something is found; between looks it waits for `wake` or the re-check. @throws `DeadlineExceeded` */
  until<T>(wait: Wait, look: () => Promise<T | undefined>): Promise<T>;
  /** Continues as new; `moved`: no time has passed yet of the deadline. */
  leave(moved: boolean): Promise<never>;
  /**
   * Awaits `work` as long as `measure` grows within each deadline; else cancels it. So it does when `look`, asked whenever the signal
   * `wake` comes meanwhile, rejects. @throws `DeadlineExceeded`, what `look` rejects with
   */
  within<T>(
    what: string,
    work: () => Promise<T>,
    measure: () => Promise<number>,
    look?: () => Promise<void>,
  ): Promise<T>;
}
