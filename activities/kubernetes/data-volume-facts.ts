/** What a lifecycle decides by, read off a DataVolume. */
import { permanentFailure } from '../failures.js';
import type { DataVolumeFacts, DataVolumeRef, Phase } from '../types.js';
import { displayUrl } from '../image/source/display-url.js';
import { cloneName } from './clone-names.js';
import { lifecycleWorkflowId, MARKS } from './names.js';
import type { DataVolume } from './objects.js';
import { sourceKind, sourceUrl } from './sources.js';

/** Time without progress that a lifecycle grants, in ms: 24 h. */
const DEFAULT_DEADLINE_MS = 86_400_000;
const DURATION = /^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/;
const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A phase that no run leaves by itself. */
export function isTerminal(phase: Phase | undefined): boolean {
  return phase === 'Succeeded' || phase === 'Failed';
}

/** Phase and conditions of a DataVolume, whoever read it. */
interface ToldStatus {
  readonly phase?: string;
  readonly conditions?: readonly { readonly type: string; readonly reason?: string }[];
}

/**
 * The disk was complete, and its claim is away, to be restored by somebody: `Pending`, as clients of CDI expect it, but no run is under
 * way. A run says why it waits where this says `Completed`.
 */
export function isAwaitingRestore(status: ToldStatus | undefined): boolean {
  const running = status?.conditions?.find(({ type }) => type === 'Running');
  return status?.phase === 'Pending' && running?.reason === 'Completed';
}

/** Facts about a DataVolume as it was read. */
export function factsOf(dataVolume: DataVolume): DataVolumeFacts {
  const { metadata, spec, status } = dataVolume;
  const { namespace, name, uid, annotations = {} } = metadata;
  const url = sourceUrl(spec);
  return {
    namespace,
    name,
    uid,
    source: sourceKind(spec),
    displayUrl: url === undefined ? (cloneName(dataVolume) ?? '') : displayUrl(url),
    // CDI takes an empty content type for none
    contentType: spec.contentType || 'kubevirt',
    phase: status?.phase ?? '',
    deadlineMs: readDeadline(annotations[MARKS.deadline]),
    ...(annotations[MARKS.uploadSpool] === 'true' ? { uploadSpool: true } : {}),
  };
}

/** `finished` where this phase is a lifecycle's last. */
export function finishedBy(phase: Phase | undefined): { finished?: true } {
  return isTerminal(phase) ? { finished: true } : {};
}

/**
 * The workflow that serves a DataVolume: the one that made it, else the one that the watch starts. Once a retry was answered it is
 * that one for good, whoever made the DataVolume.
 */
export function servingWorkflow({
  metadata,
}: {
  readonly metadata: DataVolumeRef & { readonly annotations?: Readonly<Record<string, string>> };
}): string {
  const { [MARKS.workflowId]: maker, [MARKS.retried]: retried } = metadata.annotations ?? {};
  return maker === undefined || retried !== undefined ? lifecycleWorkflowId(metadata) : maker;
}

/** Whether the workflow of this id serves a DataVolume; a retry runs under the id of the watch before it is answered. */
export function isServedBy(dataVolume: DataVolume, workflowId: string): boolean {
  return (
    workflowId === lifecycleWorkflowId(dataVolume.metadata) || workflowId === servingWorkflow(dataVolume)
  );
}

/**
 * Temporal's UI starts a workflow like another one under an id of its own: two lifecycles would fill one claim.
 * @throws {@link FailureType} `ResourceExists` for a workflow that does not serve the DataVolume
 */
export function refuseOtherWorkflow(found: DataVolume, workflowId: string): void {
  if (!isServedBy(found, workflowId)) throw servedBy(servingWorkflow(found), found);
}

/** What is said to a workflow when another one, of this id, serves the DataVolume. */
export function servedBy(workflowId: string, { metadata: { namespace, name } }: DataVolume): Error {
  return permanentFailure(
    'ResourceExists',
    `DataVolume ${namespace}/${name} is served by workflow ${workflowId}: ` +
      `to run it once more, use dvflow retry ${name} -n ${namespace}`,
  );
}

function readDeadline(text: string | undefined): number {
  const ms = parseDeadline(text);
  if (ms !== undefined) return ms;
  throw permanentFailure('InvalidDataVolume', invalidDeadline(text));
}

/** Time in ms that `90m`, `24h`, `1h30m` or `2d` means, or `undefined`; without a text the default of 24 h. */
export function parseDeadline(text: string | undefined): number | undefined {
  if (text === undefined) return DEFAULT_DEADLINE_MS;
  const parts = DURATION.test(text) ? [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)] : [];
  const total = parts.reduce((sum, [, amount, unit = '']) => sum + Number(amount) * (UNIT_MS[unit] ?? 0), 0);
  return total > 0 ? total : undefined;
}

/** What is said against a deadline that is none. */
export function invalidDeadline(text: string | undefined): string {
  return `annotation ${MARKS.deadline} is "${text}": write a time such as 90m or 24h`;
}
