/** Which claim or snapshot a DataVolume is cloned from. */
import { permanentFailure } from '../failures.js';
import type {
  CloneSource,
  CloneSourceActivities,
  SourceAwaited,
  SourceFound,
} from '../types/clone-sources.js';
import type { DataVolumeRef } from '../types.js';
import { callIfFound } from './client.js';
import type { Kubernetes } from './client.js';
import { resolveDataSource, type BrokenReference, type DataSourceName } from './data-source-chain.js';
import { cloneSourceOf, sourceRefOf } from './clone-names.js';
import { readDataVolume } from './data-volumes.js';
import { CDI_GROUP, CDI_VERSION } from './names.js';
import type { DataSource, DataVolume } from './objects.js';

/** What is only not there yet; everything else is there and wrong. */
const AWAITED: readonly BrokenReference[] = ['NotFound', 'NoSource'];

/** Address of a DataSource for the custom objects API. */
export function dataSourcePath({ namespace, name }: DataSourceName): {
  group: string;
  version: string;
  namespace: string;
  plural: string;
  name: string;
} {
  return { group: CDI_GROUP, version: CDI_VERSION, namespace, plural: 'datasources', name };
}

/** The DataSource of this name; `undefined` where there is none. */
export async function findDataSource(
  { custom }: Pick<Kubernetes, 'custom'>,
  name: DataSourceName,
): Promise<DataSource | undefined> {
  const found: unknown = await callIfFound(
    `reading DataSource ${name.namespace}/${name.name}`,
    custom.getNamespacedCustomObject(dataSourcePath(name)) as Promise<object>,
  );
  return found as DataSource | undefined;
}

/** Activities about sources of clones. */
export function createCloneSourceActivities({
  kubernetes,
}: {
  kubernetes: Kubernetes;
}): CloneSourceActivities {
  async function resolveCloneSource({
    dataVolume: ref,
  }: {
    dataVolume: DataVolumeRef;
  }): Promise<SourceFound | SourceAwaited> {
    const dataVolume = await readDataVolume(kubernetes, ref);
    const reference = sourceRefOf(dataVolume);
    if (!reference) return { source: ownSource(dataVolume) };
    const chain = await resolveDataSource(reference, (name) => findDataSource(kubernetes, name));
    if (!chain.source) {
      const { reason, message } = chain;
      return { waiting: { reason, message, counts: !AWAITED.includes(reason) } };
    }
    const through = chain.through.map(({ namespace, name }) => `${namespace}/${name}`);
    return { source: chain.source, through };
  }

  return { resolveCloneSource };
}

function ownSource(dataVolume: DataVolume): CloneSource {
  const source = cloneSourceOf(dataVolume);
  if (source) return source;
  throw permanentFailure(
    'UnsupportedSource',
    'the DataVolume has neither source.pvc nor source.snapshot nor sourceRef: it is not a clone',
  );
}
