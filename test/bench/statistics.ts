/** Several measurements of one thing. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/**
 * How a figure stands against what must be: `disk` is out of the reach of this machine's disk, and as fast as it allows; `within` is
 * below it, but not by more than the pairs' spread.
 */
export type Verdict = 'pass' | 'disk' | 'within' | 'fail';

/** A factor that must be reached. */
export interface Bound {
  readonly must: number;
  readonly goal?: number;
}

/** Part of what must be that the quick run asks for. */
export const QUICK_LEEWAY = 0.8;

/** Part of the bare disk's speed that must be reached where the disk is the limit. */
export const DISK_MUST = 0.85;

/** Median and range; the median of an even number is the mean of the two in the middle. @throws when there is none */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((one, other) => one - other);
  const [lower, upper] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]];
  const [min, max] = [sorted[0], sorted.at(-1)];
  if (lower === undefined || upper === undefined || min === undefined || max === undefined)
    throw new Error('no measurement to summarise');
  return { median: (lower + upper) / 2, min, max };
}

/** How many times faster ours was in each round: the peer's time over ours. */
export function ratios(ours: readonly number[], peer: readonly number[]): readonly number[] {
  return ours.map((own, round) => {
    const other = peer[round];
    if (other === undefined) throw new Error(`round ${round + 1} has no pair`);
    return other / own;
  });
}

/** Of several methods the one with the best median; the first of equal ones. */
export function fastest<Name extends string>(walls: ReadonlyMap<Name, readonly number[]>): Name {
  const [best] = [...walls].sort(([, one], [, other]) => spreadOf(one).median - spreadOf(other).median);
  if (best === undefined) throw new Error('no method to choose from');
  return best[0];
}

/**
 * Judges a factor by the median of its pairs. The whole run fails it when what must be is out of the pairs' reach: the median is
 * below by more than the pairs spread upwards, so that not one pair got there. The quick run fails it only below
 * {@link QUICK_LEEWAY} of what must be.
 */
export function judge(pairs: Spread, { must }: Bound, quick: boolean): Verdict {
  if (pairs.median >= must) return 'pass';
  const failed = quick ? pairs.median < QUICK_LEEWAY * must : pairs.max < must;
  return failed ? 'fail' : 'within';
}

/**
 * Judges a factor where the disk alone was measured in the same rounds. Where even that, in our place, would have failed, no
 * converter can pass on this machine: then ours is judged by the disk's speed, of which {@link DISK_MUST} must be reached.
 * @param ofDisk - the disk's time over ours, by round
 * @param reach - the peer's time over the disk's, by round
 */
export function judgeOnDisk(
  pairs: Spread,
  bound: Bound,
  { ofDisk, reach, quick }: { readonly ofDisk: Spread; readonly reach: Spread; readonly quick: boolean },
): Verdict {
  const verdict = judge(pairs, bound, quick);
  if (verdict !== 'fail' || judge(reach, bound, quick) !== 'fail') return verdict;
  return judge(ofDisk, { must: DISK_MUST }, quick) === 'fail' ? 'fail' : 'disk';
}

/** Judges a figure that must not be larger; the quick run gives it the same leeway. */
export function judgeLimit(value: number, most: number, quick: boolean): Verdict {
  if (value <= most) return 'pass';
  return quick && value <= most / QUICK_LEEWAY ? 'within' : 'fail';
}

/** The worst of several verdicts. */
export function worst(verdicts: readonly Verdict[]): Verdict {
  return (['fail', 'within', 'disk'] as const).find((verdict) => verdicts.includes(verdict)) ?? 'pass';
}
