/** What a child is told to read in place of an image. */
export interface VolumeRequest {
  readonly kind: 'volume';
  /** For messages: `disk.img of PersistentVolume pvc-1 on node node01`. */
  readonly name: string;
  /** See `CloneInput`. */
  readonly generation: number;
  /** Share the blocks, where source and target allow it. @default false */
  readonly reflink?: boolean;
  readonly checksum?: never;
}
