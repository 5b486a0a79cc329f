import type { ApplicationFailure } from '@temporalio/common';
import { permanentFailure } from '../failures.js';

/** The bytes are not what they claim to be: damaged, cut short, or against their format's rules. */
export function invalid(message: string, cause?: unknown): ApplicationFailure {
  return permanentFailure('ImageInvalid', message, cause);
}

/** The image asks for what no honest image asks for: other files, tables on top of each other, output without end. */
export function hostile(message: string, cause?: unknown): ApplicationFailure {
  return permanentFailure('ImageHostile', message, cause);
}

/** A format, or a feature of one, that this release does not read. */
export function unsupported(message: string): ApplicationFailure {
  return permanentFailure('UnsupportedFormat', message);
}

/** Reading this image needs room for a second copy, which this release does not make; the message says why. */
export function scratchRequired(why: string): ApplicationFailure {
  return permanentFailure(
    'ScratchSpaceRequired',
    `image cannot be streamed and would need scratch space: ${why}`,
  );
}
