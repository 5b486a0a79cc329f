import type { Descriptor } from './manifest.js';

/** A manifest or an index, its bytes held to their digest where it is known. */
export interface ManifestDocument {
  readonly bytes: Buffer;
  /** As served or as the descriptor says; absent where neither does. */
  readonly mediaType?: string;
}

/** Where an image's parts come from: a registry, or an archive of the OCI layout. */
export interface ImageStore {
  /** The image, for messages. */
  readonly display: string;
  /** The manifest or index that the reference names. */
  root(): Promise<ManifestDocument>;
  /** A manifest that an index names. @throws {@link FailureType} `ChecksumMismatch` */
  manifest(descriptor: Descriptor): Promise<ManifestDocument>;
  /**
   * The bytes of a blob as they are served; nobody has compared them with the digest.
   * @param inOneAnswer ask a server for all of it at once, and hold it to no validators, for a reader who lets nothing rest on it
   * before it is held to its digest. @default false
   */
  blob(descriptor: Descriptor, inOneAnswer?: boolean): AsyncIterable<Buffer>;
  /** Bytes received so far, discarded ones included. */
  readonly bytesRead: number;
  close(): void;
}
