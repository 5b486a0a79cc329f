import type { TlsFiles } from '../../data-port/tls.js';

/** What a child is told to read in place of an image; it holds a private key, and goes by the child's standard input only. */
export interface VolumeRequest {
  readonly kind: 'volume';
  /** For messages: `PersistentVolume pvc-1 on node node01`. */
  readonly name: string;
  /** See `CloneInput`. */
  readonly generation: number;
  /** Share the blocks, where source and target allow it. @default false */
  readonly reflink?: boolean;
  /** An archive's files instead of a disk. @default false */
  readonly tree?: boolean;
  /** On the data port of another node; absent: the child has the disk open. */
  readonly remote?: { readonly url: string; readonly tls: TlsFiles };
  readonly checksum?: never;
}
