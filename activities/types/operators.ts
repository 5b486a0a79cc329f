/** What nodes tell operators about themselves: `dvflow doctor` and the metrics of pools. */
import type { PoolRef } from './target.js';

/** One pool as it is on one node; nothing was made or changed to learn it. */
export interface PoolReport {
  readonly path: string;
  /** `absent`: no such directory; it is made by the first volume if its parent exists. */
  readonly state: 'usable' | 'absent' | 'unusable';
  /** Why it is not usable. */
  readonly message?: string;
  /** Size of the file system, in bytes. */
  readonly totalBytes?: number;
  /** Bytes that can still be promised. */
  readonly roomBytes?: number;
  /** Bytes that are promised to volumes, used or not. */
  readonly promisedBytes?: number;
  /** Volumes with a promise. */
  readonly promises?: number;
  /** The pool lies on the file system of the operating system. */
  readonly sharedWithOs?: boolean;
  /** How the kernel treats labels, and whether the directory's lets virtual machines in. */
  readonly selinux?: {
    readonly mode: 'enforcing' | 'permissive' | 'disabled';
    readonly labelled: boolean;
    /** Which label it has, which it needs. */
    readonly message: string;
  };
}

/** One node's worker and its pools. */
export interface NodeReport {
  readonly node: string;
  /** Version of dvflow. */
  readonly version: string;
  /** Version of Node.js. */
  readonly nodeVersion: string;
  /** The worker may give disks to KubeVirt's user; without root they belong to the worker's own. */
  readonly root: boolean;
  readonly pools: readonly PoolReport[];
}

/** Activity of task queue `dvflow-node-<node>` for operators. */
export interface ExamineActivities {
  /** Looks at the worker and at these pools as they are; what is wrong is told, never thrown. */
  examineNode(input: { pools: readonly PoolRef[] }): Promise<NodeReport>;
}
