/** What a DataSource is to say about itself (`cdi.md` §1.9; CDI's `datasource-controller.go`). */
import type { V1PersistentVolumeClaim } from '@kubernetes/client-node';
import type { CloneSource } from '../types/clone-sources.js';
import type { Condition } from '../types.js';
import type { Chain } from './data-source-chain.js';
import type { DataSource, DataSourceSource, DataVolume, ObjectMeta } from './objects.js';
import { mergeConditions } from './status.js';

/** A VolumeSnapshot, as far as a DataSource asks it. */
export interface VolumeSnapshot {
  readonly metadata: Pick<ObjectMeta, 'labels'>;
  readonly status?: { readonly readyToUse?: boolean };
}

/** Everything that decides what a DataSource says. */
export interface DataSourceFacts {
  readonly dataSource: DataSource;
  readonly chain: Chain;
  /** The claim or snapshot at its end, and the DataVolume of the claim's name; absent where there is none. */
  readonly claim?: V1PersistentVolumeClaim | undefined;
  readonly dataVolume?: DataVolume | undefined;
  readonly snapshot?: VolumeSnapshot | undefined;
  readonly now: Date;
}

/** Whether what a DataSource names can be cloned; labels only of one that can. */
type Verdict = Pick<Condition, 'status' | 'reason' | 'message'> & {
  readonly labels?: Readonly<Record<string, string>>;
};

/** Labels that describe a disk (`instancetype.kubevirt.io/default-instancetype`), which KubeVirt reads off the DataSource. */
const DESCRIBING = /^([\w.]+\.kubevirt\.io|kubevirt\.io)\/[\w.-]+$/;

/**
 * The DataSource with status and labels as they are to be. The same facts give the same object, so that replicas do not write
 * against each other. `status.source` is empty unless the source can be cloned now: KubeVirt clones whatever it finds there.
 */
export function wantedDataSource(facts: DataSourceFacts): DataSource {
  const { dataSource, chain, now } = facts;
  const { labels = {}, ...verdict } = judge(facts);
  const ready = verdict.status === 'True' && chain.source !== undefined;
  const merged = { ...dataSource.metadata.labels, ...labels };
  return {
    ...dataSource,
    metadata: {
      ...dataSource.metadata,
      ...(Object.keys(merged).length > 0 ? { labels: merged } : {}),
    },
    status: {
      ...dataSource.status,
      source: ready ? sourceOf(chain.source) : {},
      conditions: mergeConditions(dataSource.status?.conditions ?? [], [{ type: 'Ready', ...verdict }], now),
    },
  };
}

function judge(facts: DataSourceFacts): Verdict {
  const { chain } = facts;
  if (!chain.source) return notReady(chain.reason, chain.message);
  return chain.source.kind === 'pvc' ? judgeClaim(facts, chain.source) : judgeSnapshot(facts, chain.source);
}

/** A claim that a DataVolume fills is ready when that one has succeeded; any other one by being there. */
function judgeClaim({ claim, dataVolume }: DataSourceFacts, { namespace, name }: CloneSource): Verdict {
  const phase = dataVolume ? dataVolume.status?.phase || 'Pending' : 'Succeeded';
  if (phase !== 'Succeeded') return notReady(phase, `DataVolume ${namespace}/${name} has phase ${phase}`);
  if (!claim) return notReady('NotFound', `PVC ${namespace}/${name} not found`);
  return ready({ ...dataVolume?.metadata.labels, ...claim.metadata?.labels });
}

function judgeSnapshot({ snapshot }: DataSourceFacts, { namespace, name }: CloneSource): Verdict {
  if (!snapshot) return notReady('NotFound', `Snapshot ${namespace}/${name} not found`);
  if (!snapshot.status?.readyToUse)
    return notReady('SnapshotNotReady', `Snapshot ${namespace}/${name} is not ready`);
  return ready({ ...snapshot.metadata.labels });
}

function ready(labels: Readonly<Record<string, string>>): Verdict {
  const describing = Object.entries(labels).filter(([name]) => DESCRIBING.test(name));
  return {
    status: 'True',
    reason: 'Ready',
    message: 'DataSource is ready to be consumed',
    labels: Object.fromEntries(describing),
  };
}

function notReady(reason: string, message: string): Verdict {
  return { status: 'False', reason, message };
}

function sourceOf({ kind, namespace, name }: CloneSource): DataSourceSource {
  return { [kind]: { namespace, name } };
}
