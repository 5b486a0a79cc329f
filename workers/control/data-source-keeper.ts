/** Keeps what a DataSource says about itself true: whether what it names can be cloned, and what that is in the end. */
import { isDeepStrictEqual } from 'node:util';
import { callForOutcome, callIfFound, type Kubernetes } from '../../activities/kubernetes/client.js';
import { findClaimNamed } from '../../activities/kubernetes/claim-object.js';
import { dataSourcePath, findDataSource } from '../../activities/kubernetes/clone-sources.js';
import {
  resolveDataSource,
  type Chain,
  type DataSourceName,
} from '../../activities/kubernetes/data-source-chain.js';
import {
  wantedDataSource,
  type DataSourceFacts,
  type VolumeSnapshot,
} from '../../activities/kubernetes/data-source-status.js';
import { findDataVolume } from '../../activities/kubernetes/data-volumes.js';

/** What came of a look at a DataSource. */
export interface Kept {
  /** Somebody else wrote meanwhile: it is to be looked at again. */
  readonly conflict?: true;
  /** It names a snapshot that is not there or not ready; snapshots are not watched, since few clusters serve them. */
  readonly awaitsSnapshot?: true;
}

/** Brings one DataSource up to date, whatever happened before. */
export type KeepDataSource = (name: DataSourceName) => Promise<Kept>;

/** Keeps DataSources with this identity. What is written depends on what the API server has, never on what a watch said. */
export function createDataSourceKeeper(kubernetes: Kubernetes): KeepDataSource {
  async function keep(name: DataSourceName): Promise<Kept> {
    const dataSource = await findDataSource(kubernetes, name);
    if (!dataSource || dataSource.metadata.deletionTimestamp) return {};
    const chain = await resolveDataSource(name, async (next) =>
      next.name === name.name ? dataSource : await findDataSource(kubernetes, next),
    );
    const facts = { dataSource, chain, now: new Date(), ...(await endOf(chain)) };
    const wanted = wantedDataSource(facts);
    const written = isDeepStrictEqual(wanted, dataSource) || (await write(name, wanted));
    if (!written) return { conflict: true };
    const awaits = chain.source?.kind === 'snapshot' && !facts.snapshot?.status?.readyToUse;
    return awaits ? { awaitsSnapshot: true } : {};
  }

  /** What the chain leads to, as far as it exists. */
  async function endOf({
    source,
  }: Chain): Promise<Pick<DataSourceFacts, 'claim' | 'dataVolume' | 'snapshot'>> {
    if (!source) return {};
    if (source.kind === 'snapshot') return { snapshot: await findSnapshot(source) };
    const { namespace, name } = source;
    const [claim, dataVolume] = await Promise.all([
      findClaimNamed(kubernetes, { namespace, name }),
      findDataVolume(kubernetes, source),
    ]);
    return { claim, dataVolume };
  }

  /** Where the cluster does not serve snapshots there is none. */
  async function findSnapshot({ namespace, name }: DataSourceName): Promise<VolumeSnapshot | undefined> {
    const path = { group: 'snapshot.storage.k8s.io', version: 'v1', namespace, plural: 'volumesnapshots' };
    const found: unknown = await callIfFound(
      `reading VolumeSnapshot ${namespace}/${name}`,
      kubernetes.custom.getNamespacedCustomObject({ ...path, name }) as Promise<object>,
    );
    return found as VolumeSnapshot | undefined;
  }

  /** Of exactly the version that was read. */
  async function write(name: DataSourceName, body: object): Promise<boolean> {
    const outcome = await callForOutcome(
      `writing DataSource ${name.namespace}/${name.name}`,
      kubernetes.custom.replaceNamespacedCustomObject({ ...dataSourcePath(name), body }) as Promise<object>,
    );
    return outcome !== 'conflict';
  }

  return keep;
}
