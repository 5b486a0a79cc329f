/** What is behind a node's "Permission denied", in one message: which directory, which label it has, which it needs, what is done. */
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { transientFailure } from '../failures.js';
import { codeOf, undefinedIfAbsent } from './directories.js';
import { describeLabel, isContainerLabel, selinuxMode } from './preparation/selinux.js';
import { openLabelAccess } from './preparation/xattr.js';

/** What was being done when the kernel refused. */
export interface Denied {
  /** Completes "could not …": `make pvc-1 in it`. */
  readonly doing: string;
  /** The backing directory. */
  readonly directory: string;
  readonly node: string;
  /** @default '/sys/fs/selinux' */
  readonly selinuxfs?: string | undefined;
}

/** Whether the kernel refused for want of rights. */
export function isDenied(error: unknown): boolean {
  return ['EACCES', 'EPERM'].includes(String(codeOf(error)));
}

/**
 * The failure to throw for an error of the file system: `PermissionDenied` with its cause where that is one, else the error itself.
 */
export async function deniedFailure(error: unknown, denied: Denied): Promise<unknown> {
  if (!isDenied(error)) return error;
  const { doing, directory, node, selinuxfs } = denied;
  // a directory that is missing cannot be what refuses: the one that it is to lie in does
  const refusing = await nearestExisting(directory);
  const message = `could not ${doing}: permission denied: directory ${refusing} on node ${node} `;
  return transientFailure('PermissionDenied', message + (await causeOf(refusing, selinuxfs)), {
    cause: error,
  });
}

/**
 * The failure to throw for an error of the file system under a pool: `NoSpace` where it is full, or has no inode left, although there
 * was room by the books (`overcommit`, or files of others); else as {@link deniedFailure}.
 */
export async function poolFailure(error: unknown, denied: Denied): Promise<unknown> {
  const code = String(codeOf(error));
  if (!['ENOSPC', 'EDQUOT'].includes(code)) return await deniedFailure(error, denied);
  const { doing, directory, node } = denied;
  const message = `could not ${doing}: the file system of pool ${directory} on node ${node} is full (${code})`;
  return transientFailure('NoSpace', message, { cause: error });
}

/** The path itself, or the closest parent that exists and can be looked at. */
export async function nearestExisting(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  return found || path === '/' ? path : await nearestExisting(dirname(path));
}

async function causeOf(directory: string, selinuxfs: string | undefined): Promise<string> {
  const mode = await selinuxMode(selinuxfs);
  const label = mode === 'disabled' ? undefined : readLabel(directory);
  if (mode === 'enforcing' && !isContainerLabel(label)) {
    return (
      `${describeLabel(label)} (SELinux is enforcing): prepareStorage of its HostPathProvisioner sets it, ` +
      'on RHCOS by a MachineConfig, and this is tried again'
    );
  }
  const found = await stat(directory).catch(() => undefined);
  const rights = found
    ? `belongs to ${found.uid}:${found.gid} with mode ${(found.mode & 0o7777).toString(8)}`
    : 'cannot be looked at';
  const user = `this worker runs as ${process.geteuid?.()}:${process.getegid?.()}`;
  const selinux =
    mode === 'disabled' ? 'SELinux is disabled' : `it ${describeLabel(label)}, SELinux is ${mode}`;
  return `${rights}, and ${user} (${selinux}): change owner or mode; this is tried again`;
}

/** A label that may not even be read is none. */
function readLabel(directory: string): string | undefined {
  try {
    return openLabelAccess().read(directory);
  } catch (error) {
    if (isDenied(error)) return undefined;
    return undefinedIfAbsent(error);
  }
}
