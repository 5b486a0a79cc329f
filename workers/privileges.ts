/** KubeVirt's qemu runs as this uid and gid, and no fsGroup applies to hostPath: disks are its own. */
const QEMU = { uid: 107, gid: 107 } as const;

/** Who owns disks and runs transfers: qemu's user where the worker is root, else the worker's own (`undefined`). */
export function transferUser(): { readonly uid: number; readonly gid: number } | undefined {
  return process.getuid?.() === 0 ? QEMU : undefined;
}
