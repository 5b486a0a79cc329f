import { createHash } from 'node:crypto';

/** A stream of chances that its key alone decides. */
export interface Random {
  /** A number from 0 to below 1. */
  fraction(): number;
  /** An integer from `least` to `most`, both included. */
  integer(least: number, most: number): number;
  /** True in `percent` of a hundred cases. */
  chance(percent: number): boolean;
  pick<T>(choices: readonly T[]): T;
  bytes(length: number): Buffer;
  /** Chances of another key below this one: what is drawn from them changes nothing of what is drawn here. */
  fork(key: string): Random;
}

/** Chances by the key, `<seed>/<case>`: the same key draws the same again, on every machine. */
export function createRandom(key: string): Random {
  const digest = createHash('sha256').update(key).digest();
  let state = digest.readUInt32LE(0);

  // mulberry32: short, and good enough to choose by
  function fraction(): number {
    state = (state + 0x6d2b_79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
  const integer = (least: number, most: number): number =>
    least + Math.floor(fraction() * (most - least + 1));
  return {
    fraction,
    integer,
    chance: (percent) => fraction() * 100 < percent,
    pick: (choices) => choices[integer(0, choices.length - 1)]!,
    bytes: (length) => Buffer.from(Array.from({ length }, () => integer(0, 255))),
    fork: (name) => createRandom(`${key}/${name}`),
  };
}
