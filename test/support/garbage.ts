import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Collects the garbage of whatever ran before in this process, so that a look at its memory sees what is held. */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  // the memory of buffers is given back behind the first one's back; the second one waits for that
  for (const _ of [1, 2]) collect();
}
