/**
 * What the tools refuse and a reader of the active disk has no use for, by their words. Anything else that they refuse and the
 * engine reads is a finding.
 */
const TOLERATED: readonly RegExp[] = [
  // extensions of the qcow2 header name backing files, data files and bitmaps; where there can be any, the header itself says so
  /Header extension too large/,
  /bitmaps_ext: /,
  /ext_backing_format: /,
  /data-file-raw requires a data file/,
  /CRYPTO header extension only expected/,
  // snapshots, bitmaps and refcounts are other tables than those of the active disk
  /[Ss]napshot table/,
  /Too many snapshots/,
  /Could not read snapshots/,
  /[Bb]itmap/,
  /[Rr]efcount/,
];

/** Whether a refusal by the oracle says nothing against reading the disk. */
export function isToleratedRefusal(why: string): boolean {
  return TOLERATED.some((pattern) => pattern.test(why));
}
