import type { ApplicationFailure } from '@temporalio/common';
import { failureTypeOf, permanentFailure } from '../failures.js';

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

const SCRATCH_REQUIRED = 'image cannot be streamed and would need scratch space: ';

/** Reading this image needs room for a second copy, and there is none; the message says why. */
export function scratchRequired(why: string): ApplicationFailure {
  return permanentFailure('ScratchSpaceRequired', `${SCRATCH_REQUIRED}${why}`);
}

/** Why {@link scratchRequired} was thrown; `undefined` for every other error. */
export function whyScratch(error: unknown): string | undefined {
  const { message = '' } = error as { message?: string };
  const required = failureTypeOf(error) === 'ScratchSpaceRequired' && message.startsWith(SCRATCH_REQUIRED);
  return required ? scratchReason(message) : undefined;
}

/** What a message of {@link scratchRequired} gives as its reason; any other text is its own. */
export function scratchReason(message: string): string {
  return message.startsWith(SCRATCH_REQUIRED) ? message.slice(SCRATCH_REQUIRED.length) : message;
}

/** Versions of a source that one transfer follows before it gives up. */
const MAX_CHANGES = 3;

/** The failure of a source that has changed so many times under one transfer; `undefined` while it is followed. */
export function changedTooOften(changes: number, cause?: unknown): Error | undefined {
  if (changes < MAX_CHANGES) return undefined;
  return permanentFailure(
    'SourceChanged',
    `source changed ${changes} times during the transfer: its content is not stable`,
    cause,
  );
}
