import type { Random } from '../support/random.js';

/** A zstd frame without content, as text for `printf`. */
export function makeSkippableFrame(random: Random): string {
  const content = random.bytes(random.integer(0, 20));
  const header = Buffer.from([0x50 + random.integer(0, 15), 0x2a, 0x4d, 0x18, content.length, 0, 0, 0]);
  return [...header, ...content].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
}
