/** What a volume says of its reservation (`reservations.ts`), and how a volume is changed only while it is what it was. */
import { Context } from '@temporalio/activity';
import { PatchStrategy, setHeaderOptions } from '@kubernetes/client-node';
import type { V1ObjectReference, V1PersistentVolume } from '@kubernetes/client-node';
import { transientFailure } from '../failures.js';
import type { DataVolumeRef } from '../types.js';
import { callForOutcome } from './client.js';
import type { Kubernetes } from './client.js';
import { MARKS } from './names.js';

/** What a volume was before it was reserved. */
export interface Before {
  readonly reclaimPolicy: string;
  /** A claim that an administrator kept it for. */
  readonly claimRef?: Pick<V1ObjectReference, 'namespace' | 'name'>;
  /** When it was reserved first; absent for one of a worker of before. */
  readonly since?: string;
}

/** 422: a test of a JSON patch found something else. */
export const CHANGED = [404, 409, 422];

/** Changes a volume if it is still what the patch tests for. */
export async function patchVolume(
  { core }: Kubernetes,
  name: string,
  doing: string,
  body: readonly object[],
): Promise<'patched' | 'changed' | 'gone'> {
  const json = setHeaderOptions('Content-Type', PatchStrategy.JsonPatch);
  const outcome = await callForOutcome(doing, core.patchPersistentVolume({ name, body }, json), CHANGED);
  return outcome === 'gone' ? 'gone' : outcome === 'conflict' ? 'changed' : 'patched';
}

/** Reserved for this DataVolume, or handed over to its claim and not published yet. */
export function isReservedFor({ metadata }: V1PersistentVolume, { uid }: DataVolumeRef): boolean {
  return (
    metadata?.labels?.[MARKS.unpublished] === uid && metadata.annotations?.[MARKS.reserved] !== undefined
  );
}

/** Whose a reservation is, and since when: later than `last`, whatever the clocks of other workers say. */
export function ownMarks(last = ''): Record<typeof MARKS.workflowId | typeof MARKS.reservedAt, string> {
  return {
    [MARKS.workflowId]: Context.current().info.workflowExecution?.workflowId ?? '',
    [MARKS.reservedAt]: new Date(Math.max(Date.now(), (Date.parse(last) || 0) + 1)).toISOString(),
  };
}

/** Another run has reserved it since; what was reserved by a worker of before says no time. */
export function wasTakenOver({ metadata }: V1PersistentVolume, since: string | undefined): boolean {
  const reservedAt = metadata?.annotations?.[MARKS.reservedAt];
  return since !== undefined && reservedAt !== undefined && reservedAt !== since;
}

/** What a reserved volume was before. */
export function beforeOf({ metadata }: V1PersistentVolume): Before {
  return JSON.parse(metadata?.annotations?.[MARKS.reserved] ?? '{"reclaimPolicy":"Retain"}') as Before;
}

/** Labels or annotations of a volume without those of the reservation. */
export function withoutMarks(of: Readonly<Record<string, string>>): Record<string, string> {
  const own: readonly string[] = [
    MARKS.unpublished,
    MARKS.workflowId,
    MARKS.dataVolume,
    MARKS.reserved,
    MARKS.reservedAt,
  ];
  return Object.fromEntries(Object.entries(of).filter(([key]) => !own.includes(key)));
}

/** Somebody else wrote the object between a look and a write: looked at anew. */
export function changedMeanwhile(name: string): Error {
  return transientFailure('KubernetesUnavailable', `volume ${name} changed meanwhile`, {
    nextRetryDelayMs: 200,
  });
}
