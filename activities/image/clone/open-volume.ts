/** The volume that a clone reads, as its child gets it. */
import type { FileHandle } from 'node:fs/promises';
import { dataPortClientOptions } from '../../data-port/tls.js';
import { permanentFailure } from '../../failures.js';
import { openSourceDisk } from '../../node/source-volume.js';
import type { CloneInput } from '../../types/clone.js';
import type { ImageSource, SourceOptions } from '../source/types.js';
import { servedUrl } from './volume-protocol.js';
import type { VolumeRequest } from './volume-request.js';
import { createVolumeSource } from './volume-source.js';

/** A request, and the disk where it is on this node. */
export interface OpenedVolume extends AsyncDisposable {
  readonly request: VolumeRequest;
  readonly disk?: FileHandle;
}

/**
 * Opens the disk of a volume of this node, read only, or says where that of another one is.
 * @throws {@link FailureType} as `openSourceDisk`
 */
export async function openVolume(
  { volume, generation, method, url }: CloneInput,
  {
    tlsDirectory,
    tree,
    memory,
  }: {
    readonly tlsDirectory: string | undefined;
    readonly tree: boolean;
    /** Where the node remembers pools. */
    readonly memory: string | undefined;
  },
): Promise<OpenedVolume> {
  const named = {
    kind: 'volume',
    name: `PersistentVolume ${volume.volume} on node ${volume.node}`,
    generation,
  } as const;
  if (url !== undefined) {
    if (tlsDirectory === undefined)
      throw permanentFailure(
        'SourceForbidden',
        `this node has no certificate for the data port of node ${volume.node}: set DVFLOW_TLS_DIRECTORY`,
      );
    const { ca, cert, key } = dataPortClientOptions(tlsDirectory);
    const remote = { url: servedUrl(url, generation), tls: { ca, cert, key } };
    const request = { ...named, tree, remote };
    return { request, [Symbol.asyncDispose]: async () => undefined };
  }
  const disk = await openSourceDisk(volume, memory);
  const request = { ...named, reflink: method === 'reflink' };
  return { request, disk, [Symbol.asyncDispose]: () => disk.close() };
}

/** The source that a child reads: its descriptor, or the data port. */
export async function openVolumeSource(
  request: VolumeRequest,
  fd: number | undefined,
  options: Pick<SourceOptions, 'signal' | 'notice'>,
): Promise<ImageSource> {
  if (request.remote) {
    const address = { ...request, ...request.remote };
    if (request.tree) return (await import('./remote-tree.js')).createRemoteTree(address, options);
    return (await import('./remote-volume.js')).createRemoteVolume(address, options);
  }
  if (fd === undefined) throw new Error('the disk of the volume is not open');
  return createVolumeSource({ ...request, fd }, options);
}
