import assert from 'node:assert/strict';
import { ApplicationFailure } from '@temporalio/common';
import { convertFile, type ConvertTestOptions } from './convert.js';

/** The conversion fails for good, with this type and message. */
export async function assertRefused(
  image: string,
  target: string,
  options: ConvertTestOptions,
  type: string,
  message: RegExp,
): Promise<void> {
  await assert.rejects(convertFile(image, target, options), refusal(type, message));
}

/** For `assert.rejects`: a failure of this type that says this, for good unless told otherwise. */
export function refusal(type: string, message: RegExp, permanent = true): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof ApplicationFailure, String((error as Error).stack));
    assert.deepEqual([error.type, error.nonRetryable], [type, permanent], error.message);
    assert.match(error.message, message);
    return true;
  };
}
