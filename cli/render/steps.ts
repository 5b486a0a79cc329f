import type {
  ImageFacts,
  ImportResult,
  PoolFacts,
  PublishedVolume,
  ReservedDirectory,
  ReservedVolume,
  TransferResult,
} from '../../activities/types.js';
import type {
  CloneOrigin,
  CloneStrategy,
  OriginAwaited,
  SourceContent,
} from '../../activities/types/clone.js';
import { bytes } from './figures.js';

/** How one kind of step is told: in the infinitive, with what came of it. */
export interface StepWords {
  readonly words: string;
  /** What came of it, from the activity's result. */
  readonly outcome?: (result: unknown) => string | undefined;
  /** Told only when it failed or was tried again. */
  readonly quiet?: boolean;
}

/** Activities in plain words; a name that is missing here is told as it is. */
export const STEPS: Readonly<Record<string, StepWords>> = {
  nameDataVolume: { words: 'read the manifest' },
  openDataVolume: { words: 'open the DataVolume' },
  planTarget: { words: 'plan the target' },
  inspectSource: { words: 'inspect the source', outcome: (result) => imageText(result as ImageFacts) },
  judgeTarget: { words: 'look for a claim of the name' },
  findCloneOrigin: {
    words: 'look at the source',
    outcome: (result) => originText(result as CloneOrigin | OriginAwaited),
  },
  measureOrigin: { words: 'measure the source', outcome: (result) => contentText(result as SourceContent) },
  planClone: { words: 'plan the target' },
  chooseCloneMethod: {
    words: 'choose how to clone',
    outcome: (result) => (result as CloneStrategy).reason,
  },
  annotateClone: { words: 'say on the claim how it is cloned', quiet: true },
  locateVolume: { words: "look for the data port of the source's node", quiet: true },
  serveVolume: { words: "serve the source on its node's data port" },
  ensureClaim: { words: 'create the claim' },
  adoptClaim: { words: 'take over the claim' },
  listCandidates: { words: 'look for nodes' },
  observePool: { words: 'ask a node for its room', outcome: (result) => poolText(result as PoolFacts) },
  refuseSelectedNode: { words: "refuse the scheduler's node" },
  reserveDirectory: {
    words: 'reserve a directory',
    outcome: (result) => directoryText(result as ReservedDirectory),
  },
  reserveVolume: { words: 'choose and reserve a volume', outcome: volumeText },
  prepareVolume: { words: 'look at the volume on its node' },
  withdrawVolume: { words: 'take the volume back' },
  emptyReservedVolume: { words: 'empty the volume' },
  releaseVolume: { words: 'give the volume back' },
  copyCredentials: { words: 'copy the credentials' },
  transferImage: { words: 'transfer the image', outcome: (result) => transferText(result as TransferResult) },
  createBlankDisk: {
    words: 'create an empty disk',
    outcome: (result) => bytes((result as TransferResult).diskBytes),
  },
  verifyImage: { words: 'verify the disk' },
  publishVolume: { words: 'publish the volume', outcome: (result) => (result as PublishedVolume).volume },
  publishDirectory: { words: 'take the mark off the directory' },
  deleteCredentials: { words: 'remove the copy of the credentials' },
  deleteUnpublishedVolume: { words: 'remove the volume' },
  deleteClaim: { words: 'remove the claim' },
  removeDirectory: { words: 'remove the directory' },
  recordStatus: { words: 'write the status', quiet: true },
  observeTransfer: { words: 'look at the transfer', quiet: true },
};

/** What the probe of a source found: `qcow2 in xz, 2 GiB, one-pass: …`. */
export function imageText(image: Partial<ImageFacts> & { readonly missing?: readonly string[] }): string {
  if (image.missing) return `${image.missing.join(', ')} does not exist yet`;
  const packed = [image.format ?? '', ...[...(image.containers ?? [])].reverse()].join(' in ');
  const size = image.virtualSize === undefined ? [] : [bytes(image.virtualSize)];
  return [packed, ...size, `${image.plan ?? ''}: ${image.reason ?? ''}`].join(', ');
}

/** Where the disk is. */
export function resultWords(result: ImportResult | undefined): string {
  return result
    ? `claim ${result.claim.namespace}/${result.claim.name}${result.volume ? `, volume ${result.volume}` : ''}`
    : '';
}

function originText(result: CloneOrigin | OriginAwaited): string {
  if (result.waiting) return `waiting: ${result.waiting.message}`;
  const { claim, volume, through = [] } = result;
  const by = through.length > 0 ? `, by DataSource ${through.join(', ')}` : '';
  return `claim ${claim.namespace}/${claim.name} on ${volume.node}${by}`;
}

function contentText({ bytes: size, allocatedBytes, leftOut = 0 }: SourceContent): string {
  const without = leftOut > 0 ? `, ${leftOut} FIFOs, sockets and devices are left out` : '';
  return `${bytes(size)}, ${bytes(allocatedBytes)} of it allocated${without}`;
}

function poolText({ node, roomBytes, totalBytes }: PoolFacts): string {
  return `${node} has ${bytes(roomBytes)} of ${bytes(totalBytes)}`;
}

function volumeText(result: unknown): string {
  const found = result as ReservedVolume | { readonly waitFor: string };
  return 'waitFor' in found ? `waiting for ${found.waitFor}` : `${found.volume} on ${found.node}`;
}

function directoryText({ node, directory, refused }: ReservedDirectory): string {
  if (refused) return `no room on ${node}: ${refused.roomBytes} bytes for ${refused.requestBytes}`;
  return `${directory} on ${node}`;
}

function transferText({ bytesTransferred, bytesWritten, resumedFrom, checksum }: TransferResult): string {
  const resumed = resumedFrom > 0 ? [`the last attempt went on at ${bytes(resumedFrom)}`] : [];
  return [
    `read ${bytes(bytesTransferred)}`,
    `wrote ${bytes(bytesWritten)}`,
    ...resumed,
    ...(checksum ? [checksum] : []),
  ].join(', ');
}
