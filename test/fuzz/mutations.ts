import { mutateBytes } from './mutate-bytes.js';
import { mutateForeign } from './mutate-foreign.js';
import { mutateQcow2 } from './mutate-qcow2.js';
import { mutateTar } from './mutate-tar.js';
import type { Random } from '../support/random.js';

/** A change of an image: the changed bytes, which may be the same buffer, and what was done. */
export interface Mutation {
  readonly bytes: Buffer;
  readonly story: string;
}

/** Changes a copy of an image one to four times: where its format has meaning more often than anywhere. `other` is spliced in. */
export function mutate(random: Random, original: Buffer, other: Buffer): { bytes: Buffer; story: string[] } {
  let bytes = Buffer.from(original);
  const story: string[] = [];
  for (let count = random.pick([1, 1, 1, 2, 2, 3, 4]); count > 0 && bytes.length > 0; count -= 1) {
    const mutation = mutateOnce(random, bytes, other);
    bytes = mutation.bytes as Buffer<ArrayBuffer>;
    story.push(mutation.story);
  }
  return { bytes, story };
}

function mutateOnce(random: Random, bytes: Buffer, other: Buffer): Mutation {
  const byFormat = random.chance(70) ? mutateFormat(random, bytes) : undefined;
  return byFormat ?? mutateBytes(random, bytes, other);
}

function mutateFormat(random: Random, bytes: Buffer): Mutation | undefined {
  if (bytes.length >= 104 && bytes.readUInt32BE(0) === 0x51_46_49_fb) return mutateQcow2(random, bytes);
  if (bytes.subarray(257, 262).toString('latin1') === 'ustar') return mutateTar(random, bytes);
  return mutateForeign(random, bytes);
}
