/** Methods that are measured in turns, so that what else a machine does falls on all of them. */
import type { Sample } from './measure.js';

/** What is measured in turns. */
export interface Turns<Name extends string> {
  readonly names: readonly Name[];
  /** Counted rounds; one more comes first, which warms up. */
  readonly rounds: number;
  readonly measure: (name: Name) => Promise<Sample>;
  /** Compares the result of a run of the first round with what it must be. */
  readonly verify: (name: Name) => Promise<void>;
}

/** Counted samples of each method. Every second round goes the other way. */
export async function takeTurns<Name extends string>({
  names,
  rounds,
  measure,
  verify,
}: Turns<Name>): Promise<ReadonlyMap<Name, readonly Sample[]>> {
  const samples = new Map<Name, Sample[]>(names.map((name) => [name, []]));
  for (let round = 0; round <= rounds; round += 1)
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const sample = await measure(name);
      if (round === 0) await verify(name);
      else samples.get(name)?.push(sample);
    }
  return samples;
}
