import { writeFile } from 'node:fs/promises';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import type { TestStack } from '../support/stack.js';

/**
 * With `DVFLOW_RECORD=1` keeps the history of a finished run as `test/histories/<name>.json`, for the replay tests. Histories are
 * re-recorded until the first tag and frozen from then on (`design.md` §11).
 */
export async function recordHistory(
  stack: Pick<TestStack, 'temporal'>,
  workflowId: string,
  name: string,
): Promise<void> {
  if (process.env.DVFLOW_RECORD !== '1') return;
  const history = await stack.temporal.workflow.getHandle(workflowId).fetchHistory();
  const path = new URL(`../histories/${name}.json`, import.meta.url);
  await writeFile(path, `${JSON.stringify(JSON.parse(historyToJSON(history)), withoutStacks, 1)}\n`);
}

/** Stack traces hold the paths of the machine that recorded, and replay does not read them. */
function withoutStacks(key: string, value: unknown): unknown {
  return key === 'stackTrace' ? '' : value;
}
