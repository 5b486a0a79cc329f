/** The argument of `localBlockVolume`, as a person typed it into the Temporal UI. */
import { permanentFailure } from '../failures.js';
import type { LocalBlockVolumeInput, LocalVolumePlan } from '../types/local-volumes.js';
import { MARK_PREFIX } from './names.js';
import { parseQuantity } from './quantity.js';

/** A device's size is a multiple of its largest block, in bytes. */
const BLOCK = 4096n;
/** Names of volumes become names of files and devices too. */
const NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

const FIELDS: readonly (keyof LocalBlockVolumeInput)[] = [
  'name',
  'node',
  'size',
  'storageClassName',
  'pool',
  'preallocation',
  'labels',
];

/** What was asked for, with the defaults. */
export type AskedVolume = Pick<
  LocalVolumePlan,
  'name' | 'node' | 'bytes' | 'storageClass' | 'preallocation' | 'labels'
> & { readonly pool?: string };

/** @throws {@link FailureType} `InvalidLocalVolume` naming the first thing that is wrong */
export function judgeInput(volume: LocalBlockVolumeInput, name: string): AskedVolume {
  const unknown = Object.keys(volume).find((key) => !FIELDS.includes(key as keyof LocalBlockVolumeInput));
  if (unknown) throw invalid(`"${unknown}" is unknown: the argument has ${FIELDS.join(', ')}`);
  const { node, size, storageClassName = 'local', pool, preallocation = false, labels = {} } = volume;
  if (!NAME.test(name)) throw invalid(`name "${name}" is not a DNS label of at most 63 characters`);
  if (typeof node !== 'string' || node === '') throw invalid('"node" is missing: name a node of the cluster');
  if (typeof storageClassName !== 'string' || storageClassName === '')
    throw invalid('"storageClassName" is empty: a claim chooses the volume by its class');
  if (pool !== undefined && typeof pool !== 'string') throw invalid('"pool" is not a path');
  if (typeof preallocation !== 'boolean') throw invalid('"preallocation" is neither true nor false');
  refuseLabels(labels);
  const bytes = bytesOf(size);
  return {
    name,
    node,
    bytes,
    storageClass: storageClassName,
    preallocation,
    labels,
    ...(pool ? { pool } : {}),
  };
}

function bytesOf(size: unknown): number {
  const text = typeof size === 'string' || typeof size === 'number' ? String(size) : '';
  const bytes = parseQuantity(text);
  if (bytes === undefined || bytes <= 0n)
    throw invalid(`"size" is ${JSON.stringify(size)}: not a size such as 2Gi`);
  const rounded = ((bytes + BLOCK - 1n) / BLOCK) * BLOCK;
  if (rounded > BigInt(Number.MAX_SAFE_INTEGER))
    throw invalid(`"size" is ${text}: more than ${Number.MAX_SAFE_INTEGER} bytes`);
  return Number(rounded);
}

/** Kubernetes judges their syntax; the marks are dvflow's own. */
function refuseLabels(labels: unknown): void {
  if (typeof labels !== 'object' || labels === null || Array.isArray(labels))
    throw invalid('"labels" is not a map');
  for (const [key, value] of Object.entries(labels)) {
    if (typeof value !== 'string') throw invalid(`label ${key} is not a string`);
    if (key.startsWith(MARK_PREFIX)) throw invalid(`label ${key} is dvflow's own`);
  }
}

function invalid(message: string): Error {
  return permanentFailure('InvalidLocalVolume', message);
}
