/**
 * Which static volume a claim gets. A `claimRef` overrides Kubernetes' own matching, so that all of it is checked here
 * (`kubernetes-mechanisms.md` §2); the order is Kubernetes' own: the smallest that is large enough.
 */
import type { V1LabelSelector, V1Node, V1PersistentVolume } from '@kubernetes/client-node';
import { permanentFailure } from '../failures.js';
import { withoutEnd } from '../without-end.js';
import { selects } from './label-selector.js';
import { CDI_ANNOTATIONS } from './names.js';
import { nodesOf } from './node-affinity.js';
import { parseQuantity } from './quantity.js';

/** What a volume must be like. */
export interface WantedVolume {
  /** The claim that is to get it. */
  readonly namespace: string;
  readonly name: string;
  /** Absent: any class. */
  readonly storageClass?: string;
  readonly volumeMode: 'Filesystem' | 'Block';
  readonly accessModes: readonly string[];
  readonly requestBytes: number;
  readonly volumeName?: string;
  readonly selector?: V1LabelSelector;
  /** `kubevirt.io/provisionOnNode`. */
  readonly node?: string;
  /** A volume that is kept for the claim is not to be written to. @default false */
  readonly leavesKept?: boolean;
}

/** A volume, as far as its specification says. */
interface Specified {
  readonly spec?: V1PersistentVolume['spec'] | undefined;
}

/** A volume that fits, and its node. */
export interface FittingVolume {
  readonly volume: V1PersistentVolume;
  readonly node: V1Node;
}

/** Volumes that are looked at in a message. */
const SHOWN = 5;

/** The volumes that fit, best first; where there is none, why not. */
export function chooseVolumes(
  wanted: WantedVolume,
  volumes: readonly V1PersistentVolume[],
  nodes: readonly V1Node[],
): { readonly fitting: readonly FittingVolume[]; readonly why: string } {
  const { volumeName } = wanted;
  const asked = volumes.filter(
    ({ metadata, spec }) =>
      (volumeName === undefined || metadata?.name === volumeName) &&
      (volumeName !== undefined ||
        wanted.storageClass === undefined ||
        (spec?.storageClassName ?? '') === wanted.storageClass),
  );
  const fitting: FittingVolume[] = [];
  const refusals: string[] = [];
  for (const volume of asked) {
    const judged = judgeVolume(volume, wanted, { volumes, nodes });
    if ('node' in judged) fitting.push({ volume, node: judged.node });
    else refusals.push(`${nameOf(volume)} ${judged.why}`);
  }
  fitting.sort(
    (a, b) =>
      compare(capacityOf(a.volume), capacityOf(b.volume)) || compare(nameOf(a.volume), nameOf(b.volume)),
  );
  return { fitting, why: describe(wanted, refusals) };
}

/** @throws {@link FailureType} `IncompatiblePVC` where a volume that is asked for by name can never serve the claim */
export function refuseForGood(volume: V1PersistentVolume, wanted: WantedVolume): void {
  const why = mismatchOf(volume, wanted);
  if (!why) return;
  throw permanentFailure(
    'IncompatiblePVC',
    `volumeName names PersistentVolume ${nameOf(volume)}, which cannot serve claim ${wanted.namespace}/${wanted.name}: it ${why}`,
  );
}

interface Around {
  readonly volumes: readonly V1PersistentVolume[];
  readonly nodes: readonly V1Node[];
}

function judgeVolume(
  volume: V1PersistentVolume,
  wanted: WantedVolume,
  around: Around,
): { readonly node: V1Node } | { readonly why: string } {
  const why = mismatchOf(volume, wanted) ?? occupied(volume, wanted);
  if (why) return { why };
  const nodes = nodesOf(volume, around.nodes);
  const [node] = nodes;
  const name = node?.metadata?.name;
  if (!node || !name) return { why: 'is on no node of the cluster' };
  if (nodes.length > 1) return { why: `does not say which of ${nodes.length} nodes it is on` };
  if (wanted.node !== undefined && name !== wanted.node)
    return { why: `is on node ${name}, not on ${wanted.node}` };
  if (!node.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True'))
    return { why: `is on node ${name}, which is not Ready` };
  const twin = around.volumes.find((other) => other !== volume && isTwin(volume, other, around.nodes));
  if (twin)
    return { why: `has the path of PersistentVolume ${nameOf(twin)}, which is ${twin.status?.phase}` };
  return { node };
}

/** What no waiting changes. */
function mismatchOf(volume: V1PersistentVolume, wanted: WantedVolume): string | undefined {
  return volume.spec?.local?.path ? misfitOf(volume, wanted) : 'is not a local volume';
}

/** Why the claim could not get a volume, of whatever driver. */
export function misfitOf({ metadata, spec }: V1PersistentVolume, wanted: WantedVolume): string | undefined {
  const { storageClass, volumeMode, accessModes, requestBytes, selector } = wanted;
  if (storageClass !== undefined && classOf({ spec }) !== storageClass)
    return `is of StorageClass "${classOf({ spec })}", not "${storageClass}"`;
  if ((spec?.volumeMode ?? 'Filesystem') !== volumeMode)
    return `has volumeMode ${spec?.volumeMode ?? 'Filesystem'}, the claim asks for ${volumeMode}`;
  const missing = accessModes.find((mode) => !spec?.accessModes?.includes(mode));
  if (missing) return `does not offer accessMode ${missing}`;
  const capacity = capacityOf({ spec });
  if (capacity < BigInt(requestBytes)) return `has ${capacity} bytes, the claim asks for ${requestBytes}`;
  if (selector && !selects(selector, metadata?.labels ?? {})) return 'does not match the selector';
  return undefined;
}

/** What may change: who has it now. */
function occupied(
  { metadata, spec, status }: V1PersistentVolume,
  { namespace, name, leavesKept }: WantedVolume,
): string | undefined {
  if (metadata?.deletionTimestamp) return 'is being deleted';
  const { claimRef } = spec ?? {};
  const kept = isKeptFor({ spec }, { namespace, name });
  if (kept && leavesKept) return `is kept for the claim as it is (${CDI_ANNOTATIONS.checkStaticVolume})`;
  if (claimRef && !kept) return `is ${status?.phase} and has claimRef ${claimRef.namespace}/${claimRef.name}`;
  return status?.phase === 'Available' ? undefined : `is ${status?.phase ?? 'Pending'}`;
}

/** An administrator has kept it for just this claim, which does not exist yet. */
export function isKeptFor(
  { spec }: Specified,
  { namespace, name }: Pick<WantedVolume, 'namespace' | 'name'>,
): boolean {
  const { claimRef } = spec ?? {};
  return claimRef?.namespace === namespace && claimRef.name === name && !claimRef.uid;
}

/** Two objects for one directory or device: what one claim's disk is must not be written over through the other. */
function isTwin(volume: V1PersistentVolume, other: V1PersistentVolume, nodes: readonly V1Node[]): boolean {
  if (pathOf(volume) !== pathOf(other) || !other.spec?.claimRef) return false;
  const [own] = nodesOf(volume, nodes);
  return nodesOf(other, nodes).some(({ metadata }) => metadata?.name === own?.metadata?.name);
}

function pathOf({ spec }: V1PersistentVolume): string {
  return withoutEnd(spec?.local?.path ?? spec?.hostPath?.path ?? '', '/');
}

function describe(
  { namespace, name, storageClass, volumeName, requestBytes, volumeMode }: WantedVolume,
  refusals: readonly string[],
): string {
  const what =
    volumeName !== undefined
      ? `PersistentVolume ${volumeName}`
      : `an Available PersistentVolume${storageClass === undefined ? '' : ` of StorageClass "${storageClass}"`}`;
  const wants = `${what} (${volumeMode}, ${requestBytes} bytes) for claim ${namespace}/${name}`;
  if (refusals.length === 0) return `${wants}: there is none`;
  const more = refusals.length > SHOWN ? `, and ${refusals.length - SHOWN} more` : '';
  return `${wants}: ${refusals.slice(0, SHOWN).join(', ')}${more}`;
}

function classOf({ spec }: Specified): string {
  return spec?.storageClassName ?? '';
}

/** Its size, in bytes. */
export function capacityOf({ spec }: Specified): bigint {
  return parseQuantity(spec?.capacity?.storage ?? '0') ?? 0n;
}

function nameOf({ metadata }: V1PersistentVolume): string {
  return metadata?.name ?? '';
}

function compare<T extends bigint | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
