import type { Stretch } from '../../source/types.js';

/** The formats that `qemu-img` decodes for us, by the names of this project. */
export type ForeignFormat = 'vmdk' | 'vdi' | 'vhd' | 'vhdx';

/** What the headers of such an image say, checked: everything that `qemu-img` allocates or follows is bounded by it. */
export interface ForeignImage {
  readonly format: ForeignFormat;
  /** `monolithicSparse`, `streamOptimized`; `dynamic`, `static`; `fixed`. */
  readonly subformat: string;
  /** Size the guest sees, in bytes; what `qemu-img info` says. A multiple of 512. */
  readonly virtualSize: number;
  /** Bytes of the disk that the image holds, as far as its header tells. */
  readonly allocatedBytes?: number;
  /** Looks up where the disk may hold something else than zeros, in order, by tables that may be large. @default all of it */
  readonly stretches?: () => Promise<readonly Stretch[]>;
  /** The disk is the first so many bytes of the file as they are, and `qemu-img` is not needed. */
  readonly rawLength?: number;
  /**
   * The format is told that its file has no end, so that what it looks for beyond the real one is asked of us and refused:
   * QEMU would read a file that was cut short as zeros.
   */
  readonly endless?: boolean;
  /** Options of QEMU's driver by which every version of it reads the image as its header was read here. */
  readonly options?: Readonly<Record<string, string>>;
}
