import type { V1PersistentVolume } from '@kubernetes/client-node';
import { IDENTITY, MARKS } from '../../../activities/kubernetes/names.js';
import { pickLifecycle } from '../../../workers/control/lifecycles.js';
import { duration } from '../../render/figures.js';
import { about, type Finding, type Subject } from '../findings.js';
import type { DataVolumeObject, StatusCondition } from '../objects.js';
import type { Reading } from '../reading.js';
import { openDataVolumesOf, type RunStanding } from '../runs.js';
import { notJudged } from './not-judged.js';

/** The watch starts a run within a second; a control worker may just be starting. */
const WITHOUT_RUN_MS = 60_000;
/** What is waited for longer than this is worth a word. */
const WAITS_LONG_MS = 10 * 60_000;
/** Reasons of waits for something that nobody may ever make: their time counts towards no deadline (`workflows/waiting.ts`). */
const ENDLESS: readonly string[] = ['CloneWithoutSource', 'ImportPVCNotReady', 'PrePopulated'];
/** Reclaiming takes seconds where the node answers. */
const RELEASED_LONG_MS = 10 * 60_000;

/** Findings of each kind that are shown one by one. */
const MOST_SHOWN = 10;

/** DataVolumes that do not come on. */
export function checkDataVolumes(
  dataVolumes: Reading<readonly DataVolumeObject[]>,
  runs: Reading<ReadonlyMap<string, RunStanding>>,
  now: number,
): readonly Finding[] {
  const subject = about('DataVolumes', 'under way');
  if (dataVolumes.refused !== undefined) return [notJudged(subject, dataVolumes)];
  const open = openDataVolumesOf(dataVolumes.value);
  const failed = dataVolumes.value.filter(({ status }) => status?.phase === 'Failed').length;
  const told = `${dataVolumes.value.length} in all, ${open.length} under way, ${failed} Failed`;
  if (runs.refused !== undefined) return [subject.ok(told), notJudged(about('DataVolumes', 'runs'), runs)];
  const stuck = open.flatMap((one) => judge(one, runs.value.get(one.metadata.uid), now) ?? []);
  const rest = stuck.length - MOST_SHOWN;
  const more =
    rest > 0
      ? [
          about('DataVolumes', 'others').warning({
            found: `${rest} more do not come on`,
            means: 'they have the same causes as those above, or others',
            todo: 'dvflow get -A',
          }),
        ]
      : [];
  return [subject.ok(told), ...stuck.slice(0, MOST_SHOWN), ...more];
}

function judge(dataVolume: DataVolumeObject, run: RunStanding | undefined, now: number): Finding | undefined {
  const { metadata, status } = dataVolume;
  const { namespace, name, creationTimestamp = '' } = metadata;
  const subject = about('DataVolumes', `${namespace}/${name}`);
  const age = now - Date.parse(creationTimestamp);
  if (run !== undefined && run !== 'running' && age > WITHOUT_RUN_MS) {
    const lifecycle = pickLifecycle(dataVolume);
    if (!lifecycle.workflowType) return unserved(subject, { namespace, name, reason: lifecycle.reason });
    return subject.problem({
      found: `phase ${status?.phase || 'empty'} for ${duration(age)}, and no run is under way for it`,
      means:
        run === 'unknown' && !status?.phase
          ? 'no control worker has seen it'
          : 'its run has ended without a word (Terminated?): a control worker makes the phase Failed',
      todo: `kubectl -n ${namespace} describe datavolume ${name}; see Workers`,
    });
  }
  const deadline = metadata.annotations?.[MARKS.deadline] ?? '24 h';
  const waiting = status?.conditions?.find(isWaiting);
  const since = waiting?.lastTransitionTime ? now - Date.parse(waiting.lastTransitionTime) : 0;
  if (!waiting || since < WAITS_LONG_MS || status?.phase === 'WaitForFirstConsumer') return undefined;
  return subject.warning({
    found: `waits for ${duration(since)}: ${waiting.reason}: ${waiting.message}`,
    // what a clone was begun with is waited for no longer than its deadline
    means:
      ENDLESS.includes(waiting.reason ?? '') && status?.phase !== 'CloneScheduled'
        ? 'it waits until that is there, however long'
        : `it ends as DeadlineExceeded ${deadline} after its last progress (annotation dvflow.io/deadline)`,
    todo: `dvflow describe ${name} -n ${namespace}`,
  });
}

function unserved(
  subject: Subject,
  { namespace, name, reason }: { namespace: string; name: string; reason: string },
): Finding {
  return subject.warning({
    found: reason,
    means: 'nothing will happen before that',
    todo: `kubectl -n ${namespace} delete datavolume ${name}, or upgrade dvflow`,
  });
}

/** Condition `Running` says what is waited for. */
function isWaiting({ type, status, reason = '', message = '' }: StatusCondition): boolean {
  return (
    type === 'Running' &&
    status === 'False' &&
    message !== '' &&
    !['', 'Pending', 'Completed'].includes(reason)
  );
}

/** Volumes whose claim is gone and whose data is still there. */
export function checkReleased(
  volumes: Reading<readonly V1PersistentVolume[]>,
  now: number,
): readonly Finding[] {
  const late = (volumes.value ?? []).filter(
    ({ metadata, spec, status }) =>
      metadata?.annotations?.hostPathProvisionerIdentity === IDENTITY &&
      spec?.persistentVolumeReclaimPolicy === 'Delete' &&
      status?.phase === 'Released' &&
      now - (status.lastPhaseTransitionTime?.getTime() ?? now) > RELEASED_LONG_MS,
  );
  if (late.length === 0) return [];
  const names = late.map(({ metadata }) => metadata?.name ?? '');
  return [
    about('DataVolumes', 'released volumes').warning({
      found: `${late.length} wait to be removed: ${names.slice(0, MOST_SHOWN).join(', ')}`,
      means: 'their data still takes room on its node',
      todo: `kubectl describe pv ${names[0]}; the worker of its node must answer (see Workers)`,
    }),
  ];
}
