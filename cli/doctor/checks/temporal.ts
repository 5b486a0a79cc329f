import { SEARCH_ATTRIBUTES } from '../../../workflows/messages.js';
import { SWEEP_SCHEDULE } from '../../../workflows/task-queues.js';
import { duration } from '../../render/figures.js';
import { about, type Finding } from '../findings.js';
import type { Reading } from '../reading.js';
import type { SweepFacts, TemporalFacts } from '../temporal.js';
import { isOlder } from '../versions.js';
import { notJudged } from './not-judged.js';

/** Custom search attributes work with every store of visibility from here on (Temporal 1.20, release notes). */
const LEAST_TEMPORAL = '1.20';

/** Three of the sweeper's intervals. */
const SWEEP_LATE_MS = 30 * 60_000;

/** The server, its namespace, and what dvflow keeps there. */
export function checkTemporal(facts: TemporalFacts, now: number): readonly Finding[] {
  return [...checkServer(facts), checkSearchAttributes(facts), checkSweep(facts.sweep, now)];
}

function checkServer({ address, namespace, serverVersion, retentionSeconds }: TemporalFacts): Finding[] {
  const server = about('Temporal', 'server');
  const version = serverVersion.value ?? '';
  const found = `Temporal ${version || 'of an unknown version'} at ${address}`;
  const place = about('Temporal', `namespace ${namespace}`);
  return [
    version && isOlder(version, LEAST_TEMPORAL)
      ? server.problem({
          found,
          means: `search attributes need Temporal ${LEAST_TEMPORAL} with every database`,
          todo: `upgrade the server to ${LEAST_TEMPORAL} or newer`,
        })
      : server.ok(found),
    checkNamespace(place, namespace, retentionSeconds),
  ];
}

function checkNamespace(
  place: ReturnType<typeof about>,
  namespace: string,
  retention: Reading<number>,
): Finding {
  if (retention.refused === undefined)
    return place.ok(`closed runs are kept for ${duration(retention.value * 1000)}`);
  if (retention.kind !== 'notFound') return notJudged(place, retention);
  return place.problem({
    found: 'it does not exist',
    means: 'no worker can connect, and nothing runs',
    todo: `temporal operator namespace create --namespace ${namespace}, or set TEMPORAL_NAMESPACE`,
  });
}

function checkSearchAttributes({ searchAttributes, namespace }: TemporalFacts): Finding {
  const subject = about('Temporal', 'search attributes');
  if (searchAttributes.refused !== undefined) return notJudged(subject, searchAttributes);
  const missing = Object.values(SEARCH_ATTRIBUTES)
    .map(({ name }) => name)
    .filter((name) => !searchAttributes.value.includes(name));
  if (missing.length === 0) return subject.ok(`all ${Object.keys(SEARCH_ATTRIBUTES).length} are registered`);
  const flags = missing.map((name) => `--name ${name} --type Keyword`).join(' ');
  return subject.problem({
    found: `not registered: ${missing.join(', ')}`,
    means: 'control workers do not start',
    todo: `temporal operator search-attribute create --namespace ${namespace} ${flags}`,
  });
}

function checkSweep(sweep: Reading<SweepFacts>, now: number): Finding {
  const subject = about('Temporal', `schedule ${SWEEP_SCHEDULE}`);
  if (sweep.refused !== undefined) {
    if (sweep.kind !== 'notFound') return notJudged(subject, sweep);
    return subject.problem({
      found: 'it does not exist',
      means: 'what terminated runs leave is never removed',
      todo: 'start a control worker, or restart it: it makes the schedule',
    });
  }
  const { paused, note, createdAt, lastRunAt } = sweep.value;
  const means = 'what terminated runs leave (claims, volumes, directories, copies of Secrets) is not removed';
  if (paused) {
    return subject.problem({
      found: `it is paused${note ? `: ${note}` : ''}`,
      means,
      todo: `temporal schedule toggle --unpause --schedule-id ${SWEEP_SCHEDULE} --reason 'dvflow doctor'`,
    });
  }
  const since = now - (lastRunAt ?? createdAt).getTime();
  if (since > SWEEP_LATE_MS) {
    return subject.problem({
      found: `it has not run for ${duration(since)}`,
      means,
      todo: `temporal schedule describe --schedule-id ${SWEEP_SCHEDULE}; a run that hangs: temporal workflow describe --workflow-id ${SWEEP_SCHEDULE}`,
    });
  }
  return subject.ok(lastRunAt ? `last run ${duration(since)} ago` : 'its first run is due within 10 minutes');
}
