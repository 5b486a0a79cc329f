import { readdirSync, readFileSync } from 'node:fs';
import type { temporal } from '@temporalio/proto';

type JsonHistory = Record<string, unknown> & { events: Record<string, unknown>[] };

/** A recorded run: `<workflow>.<outcome>.json` as `temporal workflow show --output json` writes it. */
export interface RecordedHistory {
  readonly name: string;
  readonly workflowType: string;
  /** Number of its events. */
  readonly events: number;
  /** The history with another workflow type, so that a mutant in the same bundle can be replayed against it. */
  as(workflowType: string): temporal.api.history.v1.IHistory;
}

const directory = new URL('../histories/', import.meta.url);

/** All recorded histories, by name. */
export function recordedHistories(): readonly RecordedHistory[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map(load);
}

function load(name: string): RecordedHistory {
  const text = readFileSync(new URL(name, directory), 'utf8');
  const recorded = JSON.parse(text) as JsonHistory;
  return {
    name,
    workflowType: typeOf(recorded).name,
    events: recorded.events.length,
    as(workflowType) {
      const history = JSON.parse(text) as JsonHistory;
      typeOf(history).name = workflowType;
      return history;
    },
  };
}

function typeOf(history: JsonHistory): { name: string } {
  const started = history.events[0]?.workflowExecutionStartedEventAttributes as {
    workflowType: { name: string };
  };
  return started.workflowType;
}
