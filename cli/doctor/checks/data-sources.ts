import { about, type Finding } from '../findings.js';
import type { DataSourceObject, StatusCondition } from '../objects.js';
import type { Reading } from '../reading.js';
import { notJudged } from './not-judged.js';

/** A control worker says something of a DataSource within a second; it may just be starting. */
const SEEN_WITHIN_MS = 60_000;

/** Findings that are shown one by one. */
const MOST_SHOWN = 10;

/** Reasons that only an edit of a DataSource takes away; others pass when what it names is there. */
const BROKEN: ReadonlySet<string | undefined> = new Set([
  'SelfReference',
  'MaxReferenceDepthReached',
  'CrossNamespaceReference',
]);

/** DataSources that can never become ready, or that nobody looks at. */
export function checkDataSources(
  dataSources: Reading<readonly DataSourceObject[]>,
  now: number,
): readonly Finding[] {
  const subject = about('DataVolumes', 'DataSources');
  if (dataSources.refused !== undefined) return [notJudged(subject, dataSources)];
  const all = dataSources.value;
  const ready = all.filter((one) => readyOf(one)?.status === 'True').length;
  const wrong = all.flatMap((one) => judge(one, now) ?? []);
  return [subject.ok(`${all.length} in all, ${ready} Ready`), ...wrong.slice(0, MOST_SHOWN)];
}

function judge(dataSource: DataSourceObject, now: number): Finding | undefined {
  const { namespace, name, creationTimestamp = '' } = dataSource.metadata;
  const subject = about('DataVolumes', `DataSource ${namespace}/${name}`);
  const condition = readyOf(dataSource);
  if (!condition && now - Date.parse(creationTimestamp) > SEEN_WITHIN_MS)
    return subject.problem({
      found: 'it has no condition Ready',
      means: 'no control worker has looked at it; KubeVirt makes no disk from it',
      todo: 'see Workers, and whether dvflow-control may update datasources',
    });
  if (!BROKEN.has(condition?.reason)) return undefined;
  return subject.warning({
    found: `${condition?.reason}: ${condition?.message}`,
    means: 'DataVolumes that refer to it wait until it is changed',
    todo: `kubectl -n ${namespace} edit datasource ${name}`,
  });
}

function readyOf({ status }: DataSourceObject): StatusCondition | undefined {
  return status?.conditions?.find(({ type }) => type === 'Ready');
}
