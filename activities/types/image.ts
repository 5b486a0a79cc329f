/** What a source holds, and how it will be read. */

/** One compressor or archive around an image; `oci` is the container image that a registry serves. */
export type Container = 'gz' | 'xz' | 'zst' | 'zip' | 'tar' | 'oci';

/** What is inside of all containers. An ISO is a raw disk; `tar` is content type `archive`, which is unpacked. */
export type ImageFormat = 'raw' | 'qcow2' | ForeignFormat | 'tar';

/** Formats that `qemu-img` decodes, in a sandbox. */
export type ForeignFormat = 'vmdk' | 'vdi' | 'vhd' | 'vhdx';

/** What identifies one version of a source; compared before a resume. */
export interface SourceValidators {
  /** Strong or weak ETag as served. */
  readonly etag?: string;
  readonly lastModified?: string;
  /** Length of the representation in bytes, where the server says it. */
  readonly length?: number;
}

/** The read plan of `design.md` §7.1 and what the probe learnt. */
export interface ImageFacts {
  /** Without user info and query. */
  readonly displayUrl: string;
  readonly format: ImageFormat;
  /** Outermost first; empty for a plain image. */
  readonly containers: readonly Container[];
  /** Size the guest sees, in bytes; absent where only the whole stream tells (compressed raw). */
  readonly virtualSize?: number;
  /** Bytes of data in a qcow2 whose tables are small enough to look at, as stored. */
  readonly allocatedBytes?: number;
  readonly validators: SourceValidators;
  /** The server answers byte ranges. */
  readonly ranges: boolean;
  /**
   * `ranged`: guest-order windows by Range; `one-pass`: the stream from its start (over ranges where there are any); `qemu-img`:
   * decoded by qemu-img in a sandbox; `unpack`: an archive, file by file.
   */
  readonly plan: 'ranged' | 'one-pass' | 'qemu-img' | 'unpack';
  /**
   * `exact`: goes on at the last record; `reread`: source is read again, durable bytes are not written again; `restart`: starts over.
   */
  readonly resume: 'exact' | 'reread' | 'restart';
  /** Why the plan needs scratch space, where it does: the file inside the containers is kept there while it is read. */
  readonly scratch?: string;
  /** What neither the server nor the image proves, where there is something. */
  readonly unproved?: string;
  /** One sentence: which plan, whether scratch is needed, and why. */
  readonly reason: string;
  /** Kubernetes labels that a container image's `KUBEVIRT_IO_*` variables mean, a hundred at most; they go onto the claim. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Architecture by which a container image was chosen, in Go's spelling: so the transfer takes the one that was inspected. */
  readonly architecture?: string;
}
