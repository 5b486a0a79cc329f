import { setImmediate as nextTurn } from 'node:timers/promises';

/** Work without a pause for longer than this would delay heartbeats and cancels. In ms. */
const LONGEST = 20;

/** Lets the event loop turn when the last turn is a while ago; call it in loops that may find all their data at hand. */
export function createBreather(): () => Promise<void> {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < LONGEST) return;
    await nextTurn();
    last = performance.now();
  };
}
