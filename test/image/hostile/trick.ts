import type { SourceOptions } from '../../../activities/image/source/types.js';
import type { FailureType } from '../../../activities/types.js';
import type { RunningServer } from '../../support/servers/index.js';

/** What a trick is played with. */
export interface Props {
  /** A qcow2 of 8 MiB by `qemu-img`, and the same with compressed clusters; copies that may be changed. */
  readonly honest: Buffer;
  readonly compressed: Buffer;
  /** For what has to be made by a tool. */
  readonly directory: string;
  /** Ends a server after the test. */
  readonly serve: <S extends RunningServer>(starting: Promise<S>) => Promise<S>;
  /** Registers what else is to be undone after the test. */
  readonly undo: (end: () => void) => void;
  /** Puts these bytes on a server, with ranges or without; its address. */
  readonly offer: (bytes: Buffer, ranges: boolean) => Promise<string>;
}

/** What is opened, as a user would have named it. */
export interface Address {
  readonly url: string;
  readonly username?: string;
  readonly password?: string;
  readonly ca?: string;
  readonly insecureSkipVerify?: boolean;
}

/** One trick of the hostile set: how it is played, and how it is refused. */
export interface Trick {
  /** Of `design.md` §7.11. */
  readonly name: string;
  readonly type: FailureType;
  /** Another attempt cannot cure it. @default true */
  readonly permanent?: boolean;
  readonly message: RegExp;
  /** Starts what plays it, on a server with ranges or without. */
  readonly play: (props: Props, ranges: boolean) => Address | Promise<Address>;
  /** Played once, and not with and without ranges. */
  readonly once?: boolean;
  /** It shows no sooner than in the middle of the disk, so that some of it may be written. */
  readonly late?: boolean;
  /** Most bytes of bodies that are read. @default 2 MiB */
  readonly mostRead?: number;
  readonly options?: Partial<SourceOptions>;
  /** `algorithm:hex` that the DataVolume asks for. */
  readonly checksum?: string;
  /** What must hold afterwards besides. */
  readonly afterwards?: () => void;
}
