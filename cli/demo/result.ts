import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { machinePath } from '../../local/nodes/paths.js';
import { runKubectl } from '../../local/kubectl.js';
import type { StackInfo } from '../../local/types.js';
import { CliError, EXIT } from '../errors.js';
import { bytes } from '../render/figures.js';
import { isZeroFrom, sha256Of, type DemoDisk } from './disk.js';

/** The claim of a DataVolume and the volume behind it, read from Kubernetes. */
export interface Published {
  readonly claim: string;
  readonly phase: string;
  readonly volume: string;
  readonly capacity: string;
  readonly node: string;
  /** The disk, where it lies on this machine. */
  readonly file: string;
}

/** Reads what a finished import has published. */
export async function readPublished(stack: StackInfo, namespace: string, name: string): Promise<Published> {
  const claim = await getJson<Claim>(stack, ['pvc', name, '-n', namespace]);
  const volume = await getJson<Volume>(stack, ['pv', claim.spec.volumeName]);
  const { path = '' } = volume.spec.hostPath ?? volume.spec.local ?? {};
  const [term] = volume.spec.nodeAffinity?.required.nodeSelectorTerms ?? [];
  const node = term?.matchExpressions?.[0]?.values?.[0] ?? stack.node;
  return {
    claim: `${namespace}/${name}`,
    phase: claim.status.phase,
    volume: claim.spec.volumeName,
    capacity: volume.spec.capacity.storage,
    node,
    file: join(machinePath(stack, node, path), 'disk.img'),
  };
}

interface Claim {
  readonly spec: { readonly volumeName: string };
  readonly status: { readonly phase: string };
}

interface Volume {
  readonly spec: {
    readonly capacity: { readonly storage: string };
    readonly hostPath?: { readonly path: string };
    readonly local?: { readonly path: string };
    readonly nodeAffinity?: {
      readonly required: {
        readonly nodeSelectorTerms: readonly {
          readonly matchExpressions?: readonly { readonly values?: readonly string[] }[];
        }[];
      };
    };
  };
}

async function getJson<T>(stack: StackInfo, args: readonly string[]): Promise<T> {
  return JSON.parse(await runKubectl(stack.kubectl, ['get', ...args, '-o', 'json'])) as T;
}

/**
 * Says what the disk in the volume is, compared with the source byte for byte by sha256: over the size that the guest sees, the
 * rest of the file being zeros. Without a source of our own only the disk's own digest is told.
 * @throws CliError when they differ
 */
export async function compareDisk(file: string, source: DemoDisk | undefined): Promise<readonly string[]> {
  const { size, blocks } = await stat(file);
  const lines = [`file     ${file}`, `         ${size} bytes, ${bytes(blocks * 512)} of them on disk`];
  const digest = await sha256Of(file, source?.virtualSize ?? size);
  if (!source) return [...lines, `sha256   ${digest}`];
  const rest = size - source.virtualSize;
  if (digest !== source.sha256 || (rest > 0 && !(await isZeroFrom(file, source.virtualSize)))) {
    throw new CliError(
      `${file} differs from its source: sha256 ${digest}, expected ${source.sha256}`,
      EXIT.unknown,
    );
  }
  return [
    ...lines,
    `sha256   ${source.sha256}  source, ${source.virtualSize} bytes`,
    `         ${digest}  volume, the same bytes${rest > 0 ? `, then ${rest} zeros` : ''}: equal`,
  ];
}
