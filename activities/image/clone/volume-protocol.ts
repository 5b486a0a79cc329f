/**
 * How a volume is read over a data port: `GET /volume/<uid>.<generation>` with `Range` and `If-Match` for bytes, with
 * `?extents=<start>-<end>` for the stretches that hold data, without either for an archive's files as a tar. Each answer carries the
 * digest of its body, made from the bytes as they were read: `Content-Digest` of RFC 9530, behind bytes and a tar as a trailer.
 */
import { createHash } from 'node:crypto';
import type { Stretch } from '../source/types.js';
import { MOST_STRETCHES } from './kernel.js';

/** Most bytes of one answer. */
export const MAX_RANGE = 8 * 1024 * 1024;
/** Most bytes whose stretches one answer tells. */
export const MAX_MAPPED = 64 * 1024 * 1024 * 1024;
/** Most stretches of one answer: one more is found, to tell where the rest begins. */
export const MAX_STRETCHES = MOST_STRETCHES - 1;

/** Address, or its last part, under which one generation of a volume is served: what serves an earlier one is not met. */
export function servedUrl(url: string, generation: number): string {
  return `${url}.${generation}`;
}

/** Value of `Content-Digest` for these bytes. */
export function contentDigest(bytes: Uint8Array): string {
  return formatDigest(createHash('sha256').update(bytes).digest('base64'));
}

/** Value of `Content-Digest` for a digest in base64. */
export function formatDigest(base64: string): string {
  return `sha-256=:${base64}:`;
}

/** Stretches as they are sent, and from where on nothing is told: more of them would make the answer too long. */
export interface ExtentMap {
  readonly stretches: readonly (readonly [start: number, end: number])[];
  readonly told: number;
}

/** The map of a part of a disk. */
export function mapStretches(stretches: readonly Stretch[], end: number): ExtentMap {
  const told = stretches.slice(0, MAX_STRETCHES);
  const rest = stretches[MAX_STRETCHES];
  return { stretches: told.map((one) => [one.start, one.end]), told: rest ? rest.start : end };
}

/** A map as it came. @throws Error for one that is none */
export function readMap(text: string, asked: Stretch): { stretches: Stretch[]; told: number } {
  const { stretches, told } = JSON.parse(text) as Partial<ExtentMap>;
  if (!Array.isArray(stretches) || typeof told !== 'number' || told <= asked.start || told > asked.end)
    throw new Error('not an extent map');
  let before = asked.start;
  return {
    told,
    stretches: stretches.map(([start, end]: readonly [number, number]) => {
      const inOrder =
        Number.isSafeInteger(start) && Number.isSafeInteger(end) && start >= before && end > start;
      if (!inOrder || end > told) throw new Error('not an extent map');
      before = end;
      return { start, end };
    }),
  };
}

/** Two whole numbers around a dash, the first smaller: `bytes=0-99` without its unit, or `0-100`. */
export function parsePair(text: string): readonly [number, number] | undefined {
  const [, first, second] = /^(\d{1,16})-(\d{1,16})$/.exec(text) ?? [];
  const pair = [Number(first), Number(second)] as const;
  return first !== undefined && pair.every(Number.isSafeInteger) && pair[0] <= pair[1] ? pair : undefined;
}
